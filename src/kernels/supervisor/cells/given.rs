//! What becomes of a magic's value in a kernel that is no IPython: a variable, where its language is one that we know, and what is to
//! be seen of it.

use serde_json::json;

use super::queue_door::QueueCell;
use crate::magics::{Answer, Bundle, Cell, Failure, Given, Language, Named, Output, StreamName};

impl QueueCell<'_> {
    /// Gives the kernel a frame and shows what is to be seen. Of the call that ends its cell the frame is the cell's result, under the name
    /// that the kernel has for that.
    pub(super) async fn give(&self, answer: Answer, ends_cell: bool) -> Result<(), Failure> {
        let language = Language::of_cell(self);
        let (Ok(language), Given::Arrow(frame)) = (language, &answer.given) else {
            self.show(answer.into_display(), None).await;
            return Ok(());
        };
        let count = match ends_cell {
            true => self.count().await,
            false => None,
        };
        self.cell.counts_as(count);
        let result = count.and_then(|count| language.result(count));
        let name = answer.named.as_ref().map(|named| named.name.clone());
        if let Some(name) = name.or(result) {
            let given = self.run_hidden(language.frame(&name, frame.path())).await;
            match given {
                Err(failure) if answer.named.is_some() => return Err(failure),
                // There is something to see all the same.
                Err(failure) => {
                    let text = format!("There is no {name}: {}\n", failure.message);
                    let name = StreamName::Stderr;
                    self.emit(Output::Stream { name, text }).await;
                }
                Ok(_) => {}
            }
        }
        if answer
            .named
            .as_ref()
            .is_none_or(|Named { is_shown, .. }| *is_shown)
        {
            self.show(answer.into_display(), count).await;
        }
        Ok(())
    }

    /// As the result of a cell that has a count, else as a display.
    async fn show(&self, data: Option<Bundle>, count: Option<i64>) {
        match (data, count) {
            (None, _) => {}
            (Some(data), None) => self.emit(Output::display(data)).await,
            (Some(data), Some(count)) => {
                let content = json!({"execution_count": count, "data": data, "metadata": {}});
                self.broker
                    .our_cell_says(self.cell, "execute_result", &content);
            }
        }
    }
}
