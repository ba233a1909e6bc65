//! [`Slots`]: where the callers of a connection find their responses.

use std::task::{Poll, Waker};

/// More free slots than this are not kept.
const KEPT: usize = 1024;

/// A slot for each caller, shared by the caller and the driver that delivers its response, and reused
/// once both have released it.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
}

#[derive(Debug, Default)]
enum Slot<T> {
    /// It is not in use.
    #[default]
    Free,
    /// The caller waits for its response, to be woken if there is a waker.
    Waiting(Option<Waker>),
    /// The caller was dropped, and the response is pending.
    Abandoned,
    /// The response waits for the caller.
    Delivered(T),
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    /// A slot for a new caller, which is woken by `waker`.
    #[inline]
    pub(crate) fn acquire(&mut self, waker: Option<&Waker>) -> usize {
        let waiting = Slot::Waiting(waker.cloned());
        match self.free.pop() {
            Some(slot) => {
                if let Some(place) = self.slots.get_mut(slot) {
                    *place = waiting;
                }
                slot
            }
            None => {
                self.slots.push(waiting);
                self.slots.len() - 1
            }
        }
    }

    /// The response for the caller in `slot`, which is free then. While it is pending, the caller
    /// is woken by `waker`; the waker from before is added to `stale`, to be dropped outside of any
    /// lock: that may run code of its executor.
    #[inline]
    pub(crate) fn poll(
        &mut self,
        slot: usize,
        waker: &Waker,
        stale: &mut Option<Waker>,
    ) -> Poll<T> {
        match self.slots.get_mut(slot) {
            Some(Slot::Waiting(before)) => {
                if !before
                    .as_ref()
                    .is_some_and(|before| before.will_wake(waker))
                {
                    *stale = before.replace(waker.clone());
                }
                Poll::Pending
            }
            Some(Slot::Delivered(_)) => match self.release(slot) {
                Slot::Delivered(response) => Poll::Ready(response),
                _ => Poll::Pending,
            },
            // A future that is polled after its end.
            _ => Poll::Pending,
        }
    }

    /// Delivers a response. Returns the caller's waker, to be woken outside of any lock.
    #[inline]
    pub(crate) fn deliver(&mut self, slot: usize, response: T) -> Option<Waker> {
        match self.slots.get_mut(slot) {
            Some(place @ Slot::Waiting(_)) => {
                match std::mem::replace(place, Slot::Delivered(response)) {
                    Slot::Waiting(waker) => waker,
                    _ => None,
                }
            }
            Some(Slot::Abandoned) => {
                self.release(slot);
                None
            }
            _ => None,
        }
    }

    /// The caller in `slot` was dropped; nothing will be delivered if it `was_withdrawn`. Returns
    /// what was in the slot, to be dropped outside of any lock.
    pub(crate) fn abandon(&mut self, slot: usize, was_withdrawn: bool) -> impl Sized + use<T> {
        match self.slots.get_mut(slot) {
            Some(place @ Slot::Waiting(_)) if !was_withdrawn => {
                std::mem::replace(place, Slot::Abandoned)
            }
            _ => self.release(slot),
        }
    }

    /// Adds a slot to the free ones, and returns what was in it.
    #[inline]
    fn release(&mut self, slot: usize) -> Slot<T> {
        self.free.push(slot);
        if self.free.len() == self.slots.len() && self.slots.len() > KEPT {
            return std::mem::replace(self, Self::new()).empty(slot);
        }
        self.empty(slot)
    }

    /// Takes out what is in a slot: last of all, so that it is moved only once.
    #[inline]
    fn empty(&mut self, slot: usize) -> Slot<T> {
        self.slots
            .get_mut(slot)
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// How many slots are in use.
    #[cfg(test)]
    fn used(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll(slots: &mut Slots<u32>, slot: usize, waker: &Waker) -> Poll<u32> {
        slots.poll(slot, waker, &mut None)
    }

    #[test]
    fn each_caller_gets_its_response_and_the_last_waker_is_woken() {
        let counts = [Arc::<Count>::default(), Arc::<Count>::default()];
        let [first, last] = counts
            .each_ref()
            .map(|count| Waker::from(Arc::clone(count)));
        let mut slots = Slots::new();
        let (a, b) = (slots.acquire(Some(&first)), slots.acquire(None));
        assert_eq!(poll(&mut slots, a, &last), Poll::Pending);
        slots.deliver(a, 1).unwrap().wake();
        assert!(slots.deliver(b, 2).is_none(), "it was never polled");
        assert_eq!(counts[0].0.load(Ordering::Relaxed), 0);
        assert_eq!(counts[1].0.load(Ordering::Relaxed), 1);
        assert_eq!(poll(&mut slots, b, &last), Poll::Ready(2));
        assert_eq!(poll(&mut slots, a, &last), Poll::Ready(1));
        assert_eq!(slots.used(), 0);
    }

    #[test]
    fn a_slot_is_reused_only_when_caller_and_response_are_gone() {
        let mut slots = Slots::new();
        let abandoned = slots.acquire(None);
        drop(slots.abandon(abandoned, false));
        let other = slots.acquire(None);
        assert_ne!(other, abandoned);
        assert!(slots.deliver(abandoned, 1).is_none());
        assert_eq!(poll(&mut slots, other, Waker::noop()), Poll::Pending);
        assert_eq!(slots.acquire(None), abandoned);

        let withdrawn = slots.acquire(None);
        drop(slots.abandon(withdrawn, true));
        assert_eq!(slots.acquire(None), withdrawn);

        let unread = slots.acquire(None);
        slots.deliver(unread, 2);
        drop(slots.abandon(unread, false));
        assert_eq!(slots.used(), 3);
    }

    #[test]
    fn the_memory_of_many_callers_is_freed() {
        let mut slots = Slots::<u32>::new();
        let all: Vec<usize> = (0..=KEPT).map(|_| slots.acquire(None)).collect();
        for slot in all {
            drop(slots.abandon(slot, true));
        }
        assert_eq!(slots.slots.capacity(), 0);
    }
}
