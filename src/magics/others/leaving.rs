//! `exit` alone in a cell for another kernel: that kernel ends, and the notebook's goes on.
//!
//! IPython takes the bare word only as the one line of a cell, and below its magic it is the second one.

use crate::magics::cell::{Cell, Output};
use crate::magics::failure::Failure;
use crate::magics::other::OtherKernel;

/// Whether a body is that, and the word is still what it was when its kernel started.
pub(super) async fn is_meant(
    body: &str,
    language: &str,
    kernel: &OtherKernel,
    cell: &dyn Cell,
) -> Result<bool, Failure> {
    let Some(word) = word(body).filter(|_| language == "python") else {
        return Ok(false);
    };
    let whose = format!("print('\\n' + str(getattr(type({word}), '__module__', '')))");
    let printed = cell.others().run_hidden(kernel, whose).await;
    Ok(printed.is_ok_and(|printed| is_of_python(&printed)))
}

/// Ends it.
pub(super) async fn leave(kernel: &OtherKernel, cell: &dyn Cell) -> Result<(), Failure> {
    let kind = kernel.kind();
    let said = match cell.others().end(kernel).await {
        true => format!(
            "The kernel in {kernel} has ended; the next `%%{kind} {kernel}` cell starts it anew.\n"
        ),
        false => format!("The kernel in {kernel} had ended already.\n"),
    };
    cell.emit(Output::stdout(said)).await;
    Ok(())
}

fn word(body: &str) -> Option<&str> {
    let body = body.trim();
    let word = body.strip_suffix("()").unwrap_or(body);
    matches!(word, "exit" | "quit").then_some(word)
}

/// Whether such a module has what ends a kernel.
fn is_of_python(printed: &str) -> bool {
    let module = printed.trim_end().rsplit('\n').next().unwrap_or_default();
    matches!(module, "_sitebuiltins" | "site") || module.ends_with(".autocall")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_word_alone_is_meant() {
        for (body, found) in [
            ("exit", Some("exit")),
            ("\n exit() \n", Some("exit")),
            ("quit\n", Some("quit")),
            ("quit()", Some("quit")),
            ("exit(1)", None),
            ("exit()()", None),
            ("x = 1\nexit", None),
            ("exit # now", None),
            ("", None),
        ] {
            assert_eq!(word(body), found, "{body:?}");
        }
    }

    #[test]
    fn what_the_user_has_called_so_is_the_users() {
        for (printed, is_meant) in [
            ("\nIPython.core.autocall\n", true),
            ("said at import\n\n_sitebuiltins\n", true),
            ("\nbuiltins\n", false),
            ("\n\n", false),
        ] {
            assert_eq!(is_of_python(printed), is_meant, "{printed:?}");
        }
    }
}
