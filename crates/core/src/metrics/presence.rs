//! Which certificates an identity presents now, of those that were seen: the record that the workers share.
//!
//! Envoy does not drain connections when a secret changes: a keep-alive connection shows the leaf that it began
//! with for days, although every handshake since has had another. What matters is the certificate of the *next*
//! handshake. So each certificate is kept with the workload instance that presented it (its address) and with
//! the times of its handshakes: it is superseded once the same instance has presented one that ends later, and
//! this one no more.

use mtls_watch_x509::time::{Seconds, UnixTime};

/// How long a certificate counts after it was last in use: replicas of one identity each connect
/// within it, and a rotated certificate is gone after it. Seconds.
pub const WINDOW: Seconds = Seconds::MINUTE.times(15);

/// Certificates kept per series, those that end first: each of so many replicas has two for a while.
const MAX_SIGHTINGS: usize = 128;

/// A moment in nanoseconds since 1970: two handshakes within a second have an order.
pub type Moment = u64;

/// One second as a [`Moment`].
pub const SECOND: Moment = 1_000_000_000;

/// The workload instance that presented a certificate: a hash of its address. `None` where the address is not
/// known, or not the instance's own.
pub type Instance = Option<u64>;

/// When a certificate was presented in handshakes, as far as anyone knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Handshakes {
    /// The first of them; the end of time if none was seen.
    first: Moment,
    /// The last of them; 0 if none was seen.
    last: Moment,
}

impl Handshakes {
    /// None was seen: a connection that was there before.
    pub const NONE: Self = Self {
        first: Moment::MAX,
        last: 0,
    };

    /// These and one more.
    #[must_use]
    pub fn and(self, moment: Moment) -> Self {
        self.joined(Self {
            first: moment,
            last: moment,
        })
    }

    /// What has passed since the last of them.
    #[must_use]
    pub fn age(self, now: UnixTime) -> Option<Seconds> {
        (self.last > 0).then(|| now.since(self.last_second()))
    }

    fn joined(self, other: Self) -> Self {
        Self {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }

    fn last_second(self) -> UnixTime {
        UnixTime(i64::try_from(self.last / SECOND).unwrap_or(i64::MAX))
    }
}

/// A certificate of one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sighting {
    /// End of validity.
    pub not_after: UnixTime,
    /// Start of validity.
    pub not_before: UnixTime,
    /// Who presented it.
    pub instance: Instance,
    /// When it was last in use.
    pub last_seen: UnixTime,
    /// When it was presented.
    pub handshakes: Handshakes,
}

impl Sighting {
    fn is_same(&self, other: &Self) -> bool {
        let key = |it: &Self| (it.not_after, it.not_before, it.instance);
        key(self) == key(other)
    }

    /// Whether it is what the instance presents now, and the other one is not any more.
    fn supersedes(&self, old: &Self) -> bool {
        self.instance.is_some()
            && self.instance == old.instance
            && self.not_after > old.not_after
            && self.handshakes.first > old.handshakes.last
            && self.handshakes.last > 0
    }

    /// Whether it has ended, and an open connection is all that still shows it: in a handshake it would be refused.
    #[must_use]
    pub fn is_outlived(&self, now: UnixTime) -> bool {
        let presented = self.handshakes.last > 0 && self.handshakes.last_second() > self.not_after;
        self.instance.is_some() && now > self.not_after && !presented
    }
}

/// The certificates of one series, the one that ends first first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record(Vec<Sighting>);

impl Record {
    /// Adds what was seen.
    pub fn merge(&mut self, seen: Sighting) {
        match self.0.iter_mut().find(|known| known.is_same(&seen)) {
            Some(known) => {
                known.last_seen = known.last_seen.max(seen.last_seen);
                known.handshakes = known.handshakes.joined(seen.handshakes);
            }
            None => self.insert(seen),
        }
        // First what has lapsed: replicas that were replaced must not keep their successors out.
        self.forget_lapsed(seen.last_seen);
        while self.0.len() > MAX_SIGHTINGS {
            self.drop_one();
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a partition point is at most the length"
    )]
    fn insert(&mut self, seen: Sighting) {
        let place = self.0.partition_point(|known| *known < seen);
        self.0.insert(place, seen);
    }

    /// Drops the certificate that matters least: the last to end of those that supersede none. Without its
    /// successor, an old one would count again.
    fn drop_one(&mut self) {
        let needed = |it: &Sighting| self.0.iter().any(|old| it.supersedes(old));
        let least = self.0.iter().rev().find(|it| !needed(it)).copied();
        match least {
            Some(least) => self.0.retain(|it| *it != least),
            None => self.0.truncate(MAX_SIGHTINGS),
        }
    }

    /// All of it.
    #[must_use]
    pub fn sightings(&self) -> &[Sighting] {
        &self.0
    }

    /// Brings back what was seen while the clock was ahead: it was seen by now at the latest.
    pub fn clamp(&mut self, now: UnixTime) {
        let latest = Moment::try_from(now.0).unwrap_or(0);
        let latest = latest.saturating_add(1).saturating_mul(SECOND);
        for seen in &mut self.0 {
            seen.last_seen = seen.last_seen.min(now);
            seen.handshakes.last = seen.handshakes.last.min(latest);
        }
    }

    /// Forgets certificates that have not been in use within the window, unless that would leave
    /// nothing: the value that was true last stays, and the time of the last sight tells its age. What
    /// supersedes one in use is kept: else that one would count again.
    pub fn forget_lapsed(&mut self, now: UnixTime) {
        let newest = self.0.iter().map(|seen| seen.last_seen).max();
        let start = now.minus(WINDOW).min(newest.unwrap_or(now));
        if self.0.iter().all(|seen| seen.last_seen >= start) {
            return;
        }
        let all = self.0.clone();
        self.0.retain(|seen| {
            let in_use = |it: &Sighting| it.last_seen >= start;
            in_use(seen) || all.iter().any(|old| in_use(old) && seen.supersedes(old))
        });
    }

    /// The certificate that ends first among those that will be presented; without any, that which ends first.
    #[must_use]
    pub fn first(&self, now: UnixTime) -> Option<&Sighting> {
        let counts = |it: &&Sighting| !it.is_outlived(now) && !self.has_successor(it);
        self.0.iter().find(counts).or(self.0.first())
    }

    /// When any of them was in use that a handshake may still present.
    #[must_use]
    pub fn last_seen(&self, now: UnixTime) -> Option<UnixTime> {
        let counting = self.0.iter().filter(|it| !it.is_outlived(now));
        counting.map(|it| it.last_seen).max()
    }

    /// Whether the instance has since presented another one.
    #[must_use]
    pub fn is_superseded(&self, seen: &Sighting) -> bool {
        let known = self.0.iter().find(|known| known.is_same(seen));
        known.is_some_and(|known| self.has_successor(known))
    }

    fn has_successor(&self, old: &Sighting) -> bool {
        self.0.iter().any(|new| new.supersedes(old))
    }

    /// As it stands in shared data.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let numbers = |seen: &Sighting| {
            [
                seen.not_after.0.to_le_bytes(),
                seen.not_before.0.to_le_bytes(),
                seen.instance.unwrap_or(0).to_le_bytes(),
                seen.last_seen.0.to_le_bytes(),
                seen.handshakes.first.to_le_bytes(),
                seen.handshakes.last.to_le_bytes(),
            ]
        };
        self.0.iter().flat_map(numbers).flatten().collect()
    }

    /// What [`Record::encode`] has written.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Record {
        let entries = bytes.as_chunks().0.as_chunks().0.iter();
        let time = |bytes| UnixTime(i64::from_le_bytes(bytes));
        let sightings = entries.map(
            |[not_after, not_before, instance, last_seen, first, last]| Sighting {
                not_after: time(*not_after),
                not_before: time(*not_before),
                instance: Some(u64::from_le_bytes(*instance)).filter(|instance| *instance != 0),
                last_seen: time(*last_seen),
                handshakes: Handshakes {
                    first: Moment::from_le_bytes(*first),
                    last: Moment::from_le_bytes(*last),
                },
            },
        );
        Record(sightings.collect())
    }
}
