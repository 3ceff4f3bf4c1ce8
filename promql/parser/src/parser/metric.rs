//! `name{label="value", ...}` as the name of one series: in test files.
use super::{Parser, Result};
use crate::string::unquote;
use crate::token::Kind;
use ferula_model::labels::METRIC_NAME;
use ferula_model::{Labels, LabelsBuilder};

const PLACE: &str = "label set";

impl Parser<'_> {
    /// The labels and the position after them. A brace only belongs to a name that it touches: `h {{...}}` is the series
    /// `h` with a histogram.
    pub fn metric(mut self) -> Result<(Labels, usize)> {
        let mut labels = LabelsBuilder::new();
        let name = self.token();
        let mut end = 0;
        if self.peek().is_metric_name() {
            end = name.span.end;
            self.next();
        }
        if self.peek() == Kind::LeftBrace && (end == 0 || self.token().span.start == end) {
            self.next();
            while self.take_if(Kind::RightBrace).is_none() {
                self.label(&mut labels)?;
                if self.take_if(Kind::Comma).is_none() && self.peek() != Kind::RightBrace {
                    return Err(self.unexpected(PLACE, "\",\" or \"}\""));
                }
            }
            end = self.last_end().end;
        }
        if name.kind.is_metric_name() {
            labels.set(METRIC_NAME, self.word(name.span));
        }
        Ok((labels.labels(), end as usize))
    }

    fn label(&mut self, labels: &mut LabelsBuilder) -> Result<()> {
        let label = self.token();
        let name = match self.peek() {
            Kind::Identifier => self.word(label.span).to_owned(),
            Kind::String => unquote(self.word(label.span)),
            _ => return Err(self.unexpected(PLACE, "identifier or \"}\"")),
        };
        self.next();
        if self.take_if(Kind::Equal).is_none() {
            if label.kind == Kind::String {
                labels.set(METRIC_NAME, &name);
                return Ok(());
            }
            return Err(self.unexpected(PLACE, "\"=\""));
        }
        let value = self.token();
        if value.kind != Kind::String {
            return Err(self.unexpected(PLACE, "string"));
        }
        self.next();
        labels.set(&name, &unquote(self.word(value.span)));
        Ok(())
    }
}
