//! What is told of a long preparation: each step as it begins, and again with its time while it lasts.
//!
//! Knows nothing of what the steps are.

use std::cell::RefCell;
use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// So long nothing is said at most: who waits is to see that something still happens.
const SILENT_MAX: Duration = Duration::from_secs(10);

/// Does what says its steps, and tells them.
pub(super) async fn told<T>(work: impl AsyncFnOnce(&dyn Fn(&str)) -> T, tell: impl Fn(&str)) -> T {
    let step = RefCell::new(None);
    let say = |line: &str| {
        tell(line);
        step.replace(Some((line.to_owned(), Instant::now())));
    };
    tokio::select! {
        done = work(&say) => done,
        never = tell_again(&step, &tell) => match never {},
    }
}

async fn tell_again(step: &RefCell<Option<(String, Instant)>>, tell: &impl Fn(&str)) -> Infallible {
    loop {
        sleep(SILENT_MAX).await;
        if let Some((line, since)) = &*step.borrow()
            && since.elapsed() >= SILENT_MAX
        {
            tell(&format!("{line} ({} s)", since.elapsed().as_secs()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_step_that_lasts_is_told_again_with_its_time() {
        let all = RefCell::new(Vec::new());
        let work = async |say: &dyn Fn(&str)| {
            sleep(SILENT_MAX / 2).await;
            say("gets");
            sleep(SILENT_MAX / 2).await;
            say("makes");
            sleep(SILENT_MAX * 5 / 2).await;
            "made"
        };
        let tell = |line: &str| all.borrow_mut().push(line.to_owned());
        assert_eq!(told(work, tell).await, "made");
        assert_eq!(
            all.take(),
            ["gets", "makes", "makes (10 s)", "makes (20 s)"]
        );
    }
}
