# From the output of `cargo test -- --nocapture` to one table: suite, passed, failed, skipped and why.
/^ +Running / {
    suite = $0
    sub(/^ +Running (unittests )?/, "", suite)
    path = suite; sub(/ \(.*/, "", path)
    sub(/.*\/deps\//, "", suite); sub(/-[0-9a-f]+\)$/, "", suite)
    # Unit tests of a crate run before the files of its tests folder, whose names say nothing about the crate.
    if (path ~ /^src\//) crate = suite; else suite = crate "/" suite
    order[++count] = suite; next
}
match($0, /SKIPPED .*/) {
    why = substr($0, RSTART + 8)
    if (!((suite SUBSEP why) in seen)) { seen[suite, why] = 1; skipped[suite]++; reasons[suite] = reasons[suite] "; " why; total_skipped++ }
}
/^test result:/ {
    passed[suite] += $4; failed[suite] += $6
    total_passed += $4; total_failed += $6
}
END {
    printf "\n%-34s %7s %7s %8s  %s\n", "suite", "passed", "failed", "skipped", "why"
    for (i = 1; i <= count; i++) {
        s = order[i]
        if (done[s]++) continue
        if (passed[s] + failed[s] + skipped[s] == 0) continue
        printf "%-34s %7d %7d %8d  %s\n", s, passed[s], failed[s], skipped[s], substr(reasons[s], 3)
    }
    printf "%-34s %7d %7d %8d\n\n", "all", total_passed, total_failed, total_skipped
    printf "%d passed, %d failed, %d skipped\n", total_passed, total_failed, total_skipped
}
