//! Room for connections: what all of them may take together, and which of them go when there is none left.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

/// What a connection takes on which no request was made yet: its handshake and a buffer.
const SILENT: i64 = 8 * 1024;
/// What one takes on which HTTP is spoken: a record of TLS, and buffers of 16 KiB for what is read and 8 KiB for what is written.
const SPEAKING: i64 = 40 * 1024;
/// Set in the place of a connection that was answered, so that it comes after all others.
const ANSWERED: u64 = 1 << 63;

/// The room of one server.
#[derive(Debug)]
pub(super) struct Room {
    members: Mutex<Members>,
}

#[derive(Debug)]
struct Members {
    /// Less than nothing if one member takes more than all the room there is.
    free: i64,
    /// Counts up, so that a later place is a larger one.
    next: u64,
    /// In the order in which they go.
    order: BTreeMap<u64, Member>,
}

#[derive(Debug)]
struct Member {
    takes: i64,
    go: Arc<Notify>,
}

/// Of more bytes than any machine has.
const MANY: i64 = 1 << 50;

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).map_or(MANY, |bytes| bytes.min(MANY))
}

impl Room {
    /// Room of so many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        let members = Members { free: signed(bytes), next: 0, order: BTreeMap::new() };
        Self { members: Mutex::new(members) }
    }

    /// A seat for a new connection. Others may have to go for it.
    pub(super) fn seat(self: &Arc<Self>) -> Seat {
        let go = Arc::new(Notify::new());
        let place = {
            let mut members = self.lock();
            members.take(SILENT);
            members.insert(0, Member { takes: SILENT, go: Arc::clone(&go) })
        };
        Seat { room: Arc::clone(self), place: AtomicU64::new(place), go }
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Members {
    fn insert(&mut self, answered: u64, member: Member) -> u64 {
        let place = answered | self.next;
        self.next += 1;
        self.order.insert(place, member);
        place
    }

    /// Takes what is free, or what those have who go first.
    fn take(&mut self, wanted: i64) {
        while self.free < wanted
            && let Some((_, member)) = self.order.pop_first()
        {
            self.free += member.takes;
            member.go.notify_one();
        }
        self.free -= wanted;
    }
}

/// The seat of one connection, given back with this value. Requests have an `Arc` of it among their extensions.
#[derive(Debug)]
pub struct Seat {
    room: Arc<Room>,
    place: AtomicU64,
    go: Arc<Notify>,
}

impl Seat {
    /// Notified when the connection has to go.
    pub(super) fn go(&self) -> Arc<Notify> {
        Arc::clone(&self.go)
    }

    /// HTTP is spoken from now on.
    pub(super) fn speaks(&self) {
        self.change(0, SPEAKING);
    }

    /// So many bytes of a body are kept until the request is answered, besides what every connection takes.
    pub fn holds(&self, bytes: usize) {
        self.change(0, SPEAKING + signed(bytes));
    }

    /// The connection was of use.
    pub(super) fn answered(&self) {
        self.change(ANSWERED, SPEAKING);
    }

    fn change(&self, answered: u64, takes: i64) {
        let mut members = self.room.lock();
        // One that is not there any more is on its way out.
        let Some(member) = members.order.remove(&self.place.load(Ordering::Relaxed)) else { return };
        members.free += member.takes;
        members.take(takes);
        let place = members.insert(answered, Member { takes, ..member });
        self.place.store(place, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut members = self.room.lock();
        if let Some(member) = members.order.remove(&self.place.load(Ordering::Relaxed)) {
            members.free += member.takes;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn room(bytes: i64) -> Arc<Room> {
        Arc::new(Room::new(usize::try_from(bytes).unwrap()))
    }

    /// Which of some connections have to go, by number.
    fn gone(seats: &[Seat]) -> Vec<usize> {
        let told = |seat: &Seat| seat.go.notified().now_or_never().inspect(|()| seat.go.notify_one()).is_some();
        (0..seats.len()).filter(|number| told(&seats[*number])).collect()
    }

    #[test]
    fn those_that_were_never_answered_go_first_and_then_those_that_were_answered_long_ago() {
        // For two connections that speak, and as many silent ones as a third would take.
        let silent = 5;
        assert_eq!(SPEAKING, SILENT * 5);
        let room = room(2 * SPEAKING + 5 * SILENT);
        let mut seats: Vec<_> = (0..2).map(|_| room.seat()).collect();
        seats[0].answered();
        seats[1].answered();
        seats[0].answered();
        seats.extend((0..silent).map(|_| room.seat()));
        assert!(gone(&seats).is_empty());
        seats.push(room.seat());
        assert_eq!(gone(&seats), [2]);
        // One that speaks takes the room of all that are silent, and what it holds that of others.
        seats[silent + 2].speaks();
        assert_eq!(gone(&seats), (2..silent + 2).collect::<Vec<_>>());
        seats[silent + 2].answered();
        seats[silent + 2].holds(1);
        assert_eq!(gone(&seats), (1..silent + 2).collect::<Vec<_>>());
        seats.push(room.seat());
        assert_eq!(gone(&seats), (1..silent + 2).collect::<Vec<_>>());
    }

    #[test]
    fn a_seat_that_is_given_back_makes_nobody_go() {
        let room = room(SPEAKING + SILENT);
        for _ in 0..100 {
            let seats: Vec<_> = (0..2).map(|_| room.seat()).collect();
            seats[0].speaks();
            seats[0].answered();
            assert!(gone(&seats).is_empty());
        }
        assert_eq!(room.lock().free, SPEAKING + SILENT);
        let seats: Vec<_> = (0..100).map(|_| room.seat()).collect();
        assert_eq!(gone(&seats), (0..94).collect::<Vec<_>>());
        drop(seats);
        assert_eq!(room.lock().free, SPEAKING + SILENT);
    }

    #[test]
    fn more_than_all_the_room_is_taken_by_one_alone() {
        let room = room(SPEAKING);
        let seats = [room.seat(), room.seat()];
        seats[0].holds(1_000_000);
        assert_eq!(gone(&seats), [1]);
        drop(seats);
        assert_eq!(room.lock().free, SPEAKING);
    }
}
