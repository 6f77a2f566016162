//! A queue with a bound in bytes: whoever sends waits for room. Knows nothing of what it holds.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// What each thing costs beside its bytes.
const COSTS: usize = 256;

/// The end where things go in.
#[derive(Debug)]
pub(super) struct Sender<T> {
    queue: mpsc::UnboundedSender<(T, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    bytes_max: u32,
}

/// The end where they come out.
#[derive(Debug)]
pub(super) struct Receiver<T>(mpsc::UnboundedReceiver<(T, OwnedSemaphorePermit)>);

/// Nobody takes any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// A queue of so many bytes. What is larger by itself waits until it is empty.
pub(super) fn channel<T>(bytes_max: u32) -> (Sender<T>, Receiver<T>) {
    let (queue, taken) = mpsc::unbounded_channel();
    let sender = Sender {
        queue,
        room: Arc::new(Semaphore::new(bytes_max as usize)),
        bytes_max,
    };
    (sender, Receiver(taken))
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            room: Arc::clone(&self.room),
            bytes_max: self.bytes_max,
        }
    }
}

impl<T> Sender<T> {
    /// Sends what has so many bytes, once there is room for it.
    pub(super) async fn send(&self, it: T, bytes: usize) -> Result<(), Gone> {
        let costs = u32::try_from(bytes.saturating_add(COSTS)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(costs.min(self.bytes_max));
        tokio::select! {
            Ok(room) = room => self.queue.send((it, room)).map_err(|_| Gone),
            () = self.closed() => Err(Gone),
        }
    }

    /// Ends when nobody takes any more.
    pub(super) async fn closed(&self) {
        self.queue.closed().await;
    }
}

impl<T> Receiver<T> {
    /// The next one; nothing when none is to come.
    pub(super) async fn recv(&mut self) -> Option<T> {
        self.0.recv().await.map(|(it, _)| it)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn what_has_no_room_waits_and_keeps_its_place() {
        let (sender, mut receiver) = channel(1000);
        sender.send(1, 500).await.unwrap();
        let mut second = pin!(sender.send(2, 500));
        assert_eq!(second.as_mut().now_or_never(), None);
        assert_eq!(receiver.recv().await, Some(1));
        second.await.unwrap();
        // What is larger than all of it goes by itself.
        let mut large = pin!(sender.send(3, usize::MAX));
        assert_eq!(large.as_mut().now_or_never(), None);
        assert_eq!(receiver.recv().await, Some(2));
        large.await.unwrap();
        // Nothing costs nothing.
        let mut empty = pin!(sender.send(4, 0));
        assert_eq!(empty.as_mut().now_or_never(), None);
        assert_eq!(receiver.recv().await, Some(3));
        empty.await.unwrap();
        assert_eq!(receiver.recv().await, Some(4));
    }

    #[tokio::test]
    async fn what_was_sent_comes_out_when_its_sender_is_gone() {
        let (sender, mut receiver) = channel(1000);
        sender.send(1, 500).await.unwrap();
        drop(sender);
        assert_eq!(receiver.recv().await, Some(1));
        assert_eq!(receiver.recv().await, None);
    }

    #[tokio::test]
    async fn whoever_waits_for_room_learns_that_nobody_takes_any_more() {
        let (sender, receiver) = channel(1000);
        sender.send(1, 900).await.unwrap();
        let mut second = pin!(sender.send(2, 900));
        assert_eq!(second.as_mut().now_or_never(), None);
        drop(receiver);
        assert_eq!(second.await, Err(Gone));
        assert_eq!(sender.send(3, 0).await, Err(Gone));
    }
}
