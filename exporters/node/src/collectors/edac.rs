//! Memory errors counted by the memory controllers.
use ferula_exposition::family::{Family, Text};

use super::Collected;
use crate::source::{Source, attribute, number_attribute};

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let counter = |name: &'static str, help: &'static str| Family::counter(name, help);
    let mut controller_ce = counter("node_edac_correctable_errors_total", "Total correctable memory errors.");
    let mut controller_ue = counter("node_edac_uncorrectable_errors_total", "Total uncorrectable memory errors.");
    let mut row_ce =
        counter("node_edac_csrow_correctable_errors_total", "Total correctable memory errors for this csrow.");
    let mut row_ue =
        counter("node_edac_csrow_uncorrectable_errors_total", "Total uncorrectable memory errors for this csrow.");
    let mut channel_ce =
        counter("node_edac_channel_correctable_errors_total", "Total correctable memory errors for this channel.");
    let mut channel_ue =
        counter("node_edac_channel_uncorrectable_errors_total", "Total uncorrectable memory errors for this channel.");

    let folder = "devices/system/edac/mc";
    for entry in source.sys_entries(folder)?.unwrap_or_default() {
        let Some(controller) = entry.strip_prefix("mc").filter(|n| n.parse::<u32>().is_ok()) else { continue };
        let number = |file: &str| number_attribute(&source.sys_path(&format!("{folder}/{entry}/{file}")));
        let text = |s: &str| Text::Owned(s.to_owned());
        for (family, file) in [(&mut controller_ce, "ce_count"), (&mut controller_ue, "ue_count")] {
            if let Some(v) = number(file) {
                family.push_with([("controller", text(controller))], v);
            }
        }
        for (family, file) in [(&mut row_ce, "ce_noinfo_count"), (&mut row_ue, "ue_noinfo_count")] {
            if let Some(v) = number(file) {
                family.push_with([("controller", text(controller)), ("csrow", "unknown".into())], v);
            }
        }
        for row in source.sys_entries(&format!("{folder}/{entry}"))?.unwrap_or_default() {
            let Some(row_number) = row.strip_prefix("csrow").filter(|n| n.parse::<u32>().is_ok()) else { continue };
            for (family, file) in [(&mut row_ce, "ce_count"), (&mut row_ue, "ue_count")] {
                if let Some(v) = number(&format!("{row}/{file}")) {
                    family.push_with([("controller", text(controller)), ("csrow", text(row_number))], v);
                }
            }
            for file in source.sys_entries(&format!("{folder}/{entry}/{row}"))?.unwrap_or_default() {
                let Some((channel, which)) = file.strip_prefix("ch").and_then(|f| f.split_once('_')) else { continue };
                let family = match which {
                    "ce_count" => &mut channel_ce,
                    "ue_count" => &mut channel_ue,
                    _ => continue,
                };
                let label = source.sys_path(&format!("{folder}/{entry}/{row}/ch{channel}_dimm_label"));
                let label = readable(&attribute(&label).unwrap_or_default());
                if let Some(v) = number(&format!("{row}/{file}")) {
                    let labels = [
                        ("channel", text(channel)),
                        ("controller", text(controller)),
                        ("csrow", text(row_number)),
                        ("dimm_label", label.into()),
                    ];
                    family.push_with(labels, v);
                }
            }
        }
    }
    out.extend([controller_ce, controller_ue, row_ce, row_ue, channel_ce, channel_ue]);
    Ok(())
}

/// The kernel's own labels, such as `mc#0csrow#1channel#0`, with their parts set apart; what firmware says stays.
fn readable(label: &str) -> String {
    let plain = label.replace('#', "");
    let is_kernels = plain.starts_with("mc") && plain.contains("csrow") && plain.contains("channel");
    if is_kernels { plain.replace("csrow", "_csrow").replace("channel", "_channel") } else { label.to_owned() }
}
