//! What one key has leased from a store: uses taken in batches, so that most requests need not wait for the store, and the
//! knowledge that there are none, so that refused requests need not wait either.
//! It must not know the store or what is used; whoever asks it brings the answers back.

use std::time::Duration;

use super::table::Aged;
use super::Standing;
use crate::contract::Granted;

/// How leases are made. The same for all keys of a limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// Most uses taken at once, at least 1.
    pub(crate) batch: u64,
    /// How long uses taken at once may wait to be used; what is left then is lost.
    pub(crate) lasts: Duration,
}

/// One key's lease. Times are nanoseconds since the process began.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    /// Uses that can be given away without asking.
    uses: u64,
    until: u64,
    /// How many were asked for last.
    batch: u64,
    /// Refused without asking until then, where it costs at least so much.
    refused_until: u64,
    refused_cost: u64,
    /// Somebody asks, and is expected back by then.
    asking_until: u64,
    /// What the store told last, and when.
    told: Granted,
    told_at: u64,
    used: u64,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Let through, or refused: nobody needs to be asked.
    Known(Standing),
    /// The store is to be asked for so many uses, or at least for what the request costs.
    Ask(u64),
}

impl Aged for Lease {
    fn used(&self) -> u64 {
        self.used
    }
}

impl Lease {
    /// A request comes that costs so much.
    pub(crate) fn admit(&mut self, now: Duration, cost: u64, terms: &Terms) -> Step {
        let now = nanos(now);
        self.used = now;
        if now < self.refused_until && cost >= self.refused_cost {
            return Step::Known(self.standing(false, now));
        }
        let lasts = now < self.until;
        if lasts && self.uses >= cost {
            self.uses -= cost;
            return Step::Known(self.standing(true, now));
        }
        // Whoever comes while another one asks takes what it needs: all of them together would take too much.
        if now < self.asking_until {
            return Step::Ask(cost);
        }
        // A key that uses up what it takes is given more at once; one that does not leaves nothing lying about.
        self.batch = match lasts {
            true => self.batch.saturating_mul(2).clamp(1, terms.batch.max(1)),
            false => 1,
        };
        self.asking_until = now + ASKING;
        Step::Ask(self.batch.max(cost))
    }

    /// The store has answered to a request of this cost.
    pub(crate) fn settle(
        &mut self,
        now: Duration,
        cost: u64,
        told: Granted,
        terms: &Terms,
    ) -> Standing {
        let now = nanos(now);
        (self.told, self.told_at, self.asking_until) = (told, now, 0);
        if told.granted == 0 {
            // Not for long: a limit may be raised, or forgotten in the store, at any time.
            let known = told.next.min(LONGEST_KNOWN);
            (self.refused_until, self.refused_cost) = (now + nanos(known), cost);
            return self.standing(false, now);
        }
        let left = if now < self.until { self.uses } else { 0 };
        self.uses = left + told.granted.saturating_sub(cost);
        self.until = now + nanos(terms.lasts);
        self.refused_until = 0;
        self.standing(true, now)
    }

    /// A response cost so many uses more than was taken, or less. What is left to be settled with the store.
    pub(crate) fn owe(&mut self, now: Duration, uses: i64) -> i64 {
        if nanos(now) >= self.until {
            return uses;
        }
        let held = i64::try_from(self.uses).unwrap_or(i64::MAX);
        let paid = uses.min(held);
        // More than was taken here is given back only where it was taken.
        self.uses = self.uses.saturating_add_signed(paid.saturating_neg());
        uses - paid
    }

    /// The store was told of a debt, and what is left there.
    pub(crate) fn owed(&mut self, now: Duration, told: Granted) {
        let now = nanos(now);
        (self.told, self.told_at) = (told, now);
        if told.remaining == 0 && !told.next.is_zero() {
            let known = told.next.min(LONGEST_KNOWN);
            (self.refused_until, self.refused_cost) = (now + nanos(known), 1);
        }
    }

    /// The store has not answered.
    pub(crate) fn failed(&mut self) {
        self.asking_until = 0;
    }

    fn standing(&self, admitted: bool, now: u64) -> Standing {
        let since = Duration::from_nanos(now.saturating_sub(self.told_at));
        let left = if now < self.until { self.uses } else { 0 };
        Standing {
            admitted,
            remaining: match admitted {
                true => self.told.remaining.saturating_add(left),
                false => 0,
            },
            next: self.told.next.saturating_sub(since),
            full: self.told.full.saturating_sub(since),
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Longer than any operation should take: should whoever asks never come back, the key goes on all the same.
const ASKING: u64 = 100_000_000;
/// How long a refusal is known without asking.
const LONGEST_KNOWN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms {
        batch: 8,
        lasts: Duration::from_secs(1),
    };

    fn granted(granted: u64, next: u64) -> Granted {
        Granted {
            granted,
            remaining: 100,
            next: Duration::from_millis(next),
            full: Duration::from_secs(10),
        }
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// How often the store is asked while so many requests come, so far apart, and grants everything.
    fn asked(requests: u64, apart: Duration) -> u64 {
        let mut lease = Lease::default();
        let mut asked = 0;
        let mut now = ms(5);
        for _ in 0..requests {
            if let Step::Ask(want) = lease.admit(now, 1, &TERMS) {
                asked += 1;
                assert!(lease.settle(now, 1, granted(want, 0), &TERMS).admitted);
            }
            now += apart;
        }
        asked
    }

    #[test]
    fn a_busy_key_asks_for_more_and_more_at_once_up_to_the_batch() {
        // 1, 2, 4, then 8 at a time.
        assert_eq!(asked(7, ms(1)), 3);
        assert_eq!(asked(7 + 8 * 10, ms(1)), 13);
    }

    #[test]
    fn a_quiet_key_asks_each_time_and_holds_nothing_back() {
        assert_eq!(asked(20, ms(2_000)), 20);
    }

    #[test]
    fn a_refused_key_is_refused_without_asking_until_there_may_be_one() {
        let mut lease = Lease::default();
        assert_eq!(lease.admit(ms(0), 1, &TERMS), Step::Ask(1));
        let refused = lease.settle(ms(0), 1, granted(0, 300), &TERMS);

        assert_eq!((refused.admitted, refused.next), (false, ms(300)));
        let Step::Known(standing) = lease.admit(ms(100), 1, &TERMS) else {
            panic!("the store is asked");
        };
        assert_eq!((standing.admitted, standing.next), (false, ms(200)));
        assert_eq!(lease.admit(ms(301), 1, &TERMS), Step::Ask(1));
    }

    #[test]
    fn a_long_refusal_is_asked_about_again_each_second() {
        let mut lease = Lease::default();
        lease.admit(ms(0), 1, &TERMS);
        lease.settle(ms(0), 1, granted(0, 86_400_000), &TERMS);

        assert!(matches!(lease.admit(ms(999), 1, &TERMS), Step::Known(_)));
        assert_eq!(lease.admit(ms(1_001), 1, &TERMS), Step::Ask(1));
    }

    #[test]
    fn while_one_asks_the_others_take_one_each() {
        let mut lease = Lease::default();
        lease.admit(ms(1), 1, &TERMS);
        lease.settle(ms(1), 1, granted(1, 0), &TERMS);

        assert_eq!(lease.admit(ms(2), 1, &TERMS), Step::Ask(2));
        assert_eq!(lease.admit(ms(2), 1, &TERMS), Step::Ask(1));
        lease.settle(ms(3), 1, granted(2, 0), &TERMS);
        lease.settle(ms(3), 1, granted(1, 0), &TERMS);
        assert!(matches!(lease.admit(ms(3), 1, &TERMS), Step::Known(_)));
    }

    #[test]
    fn whoever_never_comes_back_does_not_hold_the_key_back_for_good() {
        let mut lease = Lease::default();
        lease.admit(ms(1), 1, &TERMS);
        lease.settle(ms(1), 1, granted(1, 0), &TERMS);
        assert_eq!(lease.admit(ms(2), 1, &TERMS), Step::Ask(2));

        assert_eq!(lease.admit(ms(200), 1, &TERMS), Step::Ask(4));
    }

    #[test]
    fn what_is_left_of_an_old_lease_is_not_used() {
        let mut lease = Lease::default();
        for now in [1, 2, 3, 4] {
            if let Step::Ask(want) = lease.admit(ms(now), 1, &TERMS) {
                lease.settle(ms(now), 1, granted(want, 0), &TERMS);
            }
        }

        assert_eq!(lease.uses, 3, "four were taken for the fourth request");
        assert_eq!(lease.admit(ms(2_000), 1, &TERMS), Step::Ask(1));
    }

    #[test]
    fn a_refusal_holds_for_those_that_cost_as_much() {
        let mut lease = Lease::default();
        assert_eq!(lease.admit(ms(1), 5, &TERMS), Step::Ask(5));
        assert!(!lease.settle(ms(1), 5, granted(0, 900), &TERMS).admitted);

        assert!(matches!(lease.admit(ms(2), 6, &TERMS), Step::Known(_)));
        assert_eq!(lease.admit(ms(2), 1, &TERMS), Step::Ask(1));
        assert!(lease.settle(ms(2), 1, granted(1, 0), &TERMS).admitted);
    }

    #[test]
    fn what_a_response_costs_is_paid_from_the_lease_first() {
        let mut lease = Lease::default();
        lease.admit(ms(1), 1, &TERMS);
        lease.settle(ms(1), 1, granted(8, 0), &TERMS);

        assert_eq!(lease.owe(ms(2), 5), 0);
        assert_eq!(lease.owe(ms(2), 5), 3);
        assert_eq!(lease.owe(ms(2), -2), 0);
        assert_eq!(lease.uses, 2);
        assert_eq!(
            lease.owe(ms(2_000), -2),
            -2,
            "it is too late to use it here"
        );
        lease.owed(
            ms(2_000),
            Granted {
                remaining: 0,
                ..granted(0, 300)
            },
        );
        assert!(
            matches!(lease.admit(ms(2_100), 1, &TERMS), Step::Known(standing) if !standing.admitted)
        );
    }
}
