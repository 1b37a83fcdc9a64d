//! What a worker remembers of certificates beside the peers that it knows: from which addresses they came, and which
//! serial numbers they have. Each of the two tables has 4 KB, taken at its first use. What finds no place in one is not
//! counted, so that nothing is found that is not there.

use std::cell::Cell;

use mtls_watch_x509::time::{Seconds, UnixTime};

/// How long addresses are counted before all are forgotten.
const WINDOW: Seconds = Seconds::HOUR;

/// Addresses of certificates that are remembered, 4 bytes each, and how many of them are looked at for one.
const ORIGINS: u64 = 1024;
const PROBES: usize = 8;

/// Serial numbers that are remembered, 16 bytes each.
const SERIALS: u64 = 256;

/// From which addresses certificates have lately come.
#[derive(Default)]
pub(super) struct Origins {
    seen: Cell<Vec<u32>>,
    since: Cell<UnixTime>,
}

impl Origins {
    /// Whether a certificate has come from an address for the first time; `hash` is of both.
    pub(super) fn is_new(&self, hash: u64) -> bool {
        let mut seen = self.seen.take();
        let (places, start) = places(hash, ORIGINS);
        seen.resize(places.saturating_add(PROBES), 0);
        // 0 is a place that is free.
        let mark = u32::try_from(hash >> 32).unwrap_or_default() | 1;
        let mut near = seen.iter_mut().skip(start).take(PROBES);
        let place = near.find(|place| **place == 0 || **place == mark);
        let is_new = place.is_some_and(|place| std::mem::replace(place, mark) == 0);
        self.seen.set(seen);
        is_new
    }

    /// Whether addresses are to be counted anew from now on.
    pub(super) fn begins_anew(&self, now: UnixTime) -> bool {
        // A clock that was set back ends it, too.
        let is_over = !(Seconds::ZERO..WINDOW).contains(&now.since(self.since.get()));
        if is_over {
            self.since.set(now);
            let mut seen = self.seen.take();
            seen.fill(0);
            self.seen.set(seen);
        }
        is_over
    }
}

/// Which serial numbers were met lately.
#[derive(Default)]
pub(super) struct Serials(Cell<Vec<Serial>>);

#[derive(Clone, Copy, Default)]
struct Serial {
    /// Hash of the issuer and the number; of the issuer.
    hash: u64,
    /// Hash of the key that the number was given to; of the number that the issuer has given; [`SEVERAL`].
    key: u64,
}

/// There is more than one.
const SEVERAL: u64 = 0;

impl Serials {
    /// Whether the issuer has given the same number to another key, as far as is remembered: `hash` is of issuer and
    /// number. Or whether it has given other numbers: `hash` is of the issuer, and `key` of the number. What is newer
    /// takes the place of what is older.
    pub(super) fn is_given_to_several(&self, hash: u64, key: u64) -> bool {
        let mut seen = self.0.take();
        let (places, place) = places(hash, SERIALS);
        seen.resize(places, Serial::default());
        let are_several = seen.get_mut(place).is_some_and(|known| {
            let are_several = known.hash == hash && known.key != key;
            let key = if are_several { SEVERAL } else { key };
            *known = Serial { hash, key };
            are_several
        });
        self.0.set(seen);
        are_several
    }
}

/// How many places there are, and which of them is that of a hash.
fn places(hash: u64, places: u64) -> (usize, usize) {
    let place = hash.checked_rem(places).unwrap_or_default();
    (index(places), index(place))
}

fn index(place: u64) -> usize {
    usize::try_from(place).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes that share no bits.
    fn hashes(number: u64) -> impl Iterator<Item = u64> {
        (1..=number).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32))
    }

    #[test]
    fn an_address_is_new_once_in_a_window() {
        let origins = Origins::default();
        let start = UnixTime(1_000_000);
        assert!(origins.begins_anew(start));
        let count = || hashes(300).filter(|hash| origins.is_new(*hash)).count();
        assert_eq!((count(), count()), (300, 0));
        assert!(!origins.begins_anew(start.plus(WINDOW).minus(Seconds::ONE)));
        assert_eq!(count(), 0);
        assert!(origins.begins_anew(start.plus(WINDOW)));
        assert_eq!(count(), 300);
        assert!(origins.begins_anew(start));
    }

    #[test]
    fn what_finds_no_place_is_not_counted() {
        let origins = Origins::default();
        let count = || hashes(100_000).filter(|hash| origins.is_new(*hash)).count();
        let first = count();
        assert!((750..=1_032).contains(&first), "{first}");
        assert_eq!(count(), 0);
        assert_eq!(size_of_val(&*origins.seen.take()), 4 * (1024 + 8));
    }

    #[test]
    fn a_number_of_two_keys_is_reused_from_then_on() {
        let serials = Serials::default();
        assert!(!serials.is_given_to_several(7, 1));
        assert!(!serials.is_given_to_several(7, 1));
        assert!(serials.is_given_to_several(7, 2));
        assert!(serials.is_given_to_several(7, 1) && serials.is_given_to_several(7, 2));
        assert!(!serials.is_given_to_several(8, 2));
        // Another number that has the same place.
        assert!(!serials.is_given_to_several(7 + SERIALS, 2));
        assert!(!serials.is_given_to_several(7, 1));
        assert_eq!(size_of_val(&*serials.0.take()), 16 * 256);
    }
}
