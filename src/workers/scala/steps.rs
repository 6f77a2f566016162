//! What is told of a long preparation: each step as it begins, and again with its time while it lasts.
//!
//! Knows nothing of what the steps are.

use std::cell::RefCell;
use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// So long nothing is said at most: who waits is to see that something still happens.
const SILENT_MAX: Duration = Duration::from_secs(10);

struct Step {
    line: String,
    began: Instant,
    told: Instant,
}

/// Does what says its steps, and tells them.
pub(super) async fn told<T>(work: impl AsyncFnOnce(&dyn Fn(&str)) -> T, tell: impl Fn(&str)) -> T {
    let step = RefCell::new(None);
    let say = |line: &str| {
        tell(line);
        let (line, now) = (line.to_owned(), Instant::now());
        step.replace(Some(Step {
            line,
            began: now,
            told: now,
        }));
    };
    tokio::select! {
        done = work(&say) => done,
        never = tell_again(&step, &tell) => match never {},
    }
}

async fn tell_again(step: &RefCell<Option<Step>>, tell: &impl Fn(&str)) -> Infallible {
    loop {
        let last = step.borrow().as_ref().map(|step| step.told);
        sleep_until(last.unwrap_or_else(Instant::now) + SILENT_MAX).await;
        if let Some(step) = &mut *step.borrow_mut()
            && step.told.elapsed() >= SILENT_MAX
        {
            step.told = Instant::now();
            tell(&format!(
                "{} ({} s)",
                step.line,
                step.began.elapsed().as_secs()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    #[tokio::test(start_paused = true)]
    async fn a_step_that_lasts_is_told_again_with_its_time() {
        let (all, begun) = (RefCell::new(Vec::new()), Instant::now());
        let work = async |say: &dyn Fn(&str)| {
            sleep(SILENT_MAX / 2).await;
            say("gets");
            sleep(SILENT_MAX / 5).await;
            say("makes");
            sleep(SILENT_MAX * 5 / 2).await;
            "made"
        };
        let tell = |line: &str| {
            let told = (begun.elapsed().as_secs(), line.to_owned());
            all.borrow_mut().push(told);
        };
        assert_eq!(told(work, tell).await, "made");
        let expected = [
            (5, "gets"),
            (7, "makes"),
            (17, "makes (10 s)"),
            (27, "makes (20 s)"),
        ];
        assert_eq!(all.take(), expected.map(|(at, line)| (at, line.to_owned())));
    }
}
