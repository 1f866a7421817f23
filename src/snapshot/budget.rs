//! Retry budgets: how many further attempts the traffic of the last seconds pays for.
//! It must not know why an attempt failed, nor whether another one makes sense.
//! The proxy deposits for each request and withdraws for each further attempt; pools and rules hold one each.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use std::time::Duration;

/// What a budget allows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Allowance {
    /// Further attempts for each request, 0 to 1.
    pub ratio: f64,
    /// Further attempts a second that need no requests to pay for them.
    pub min_per_second: u32,
    /// How long a request pays.
    pub window: Duration,
}

impl Default for Allowance {
    /// Linkerd's defaults.
    fn default() -> Allowance {
        Allowance {
            ratio: 0.2,
            min_per_second: 10,
            window: Duration::from_secs(10),
        }
    }
}

/// A budget as Linkerd and Finagle define it (Tower's `TpsBudget`): a request pays in its share of an attempt, an attempt
/// costs one, and what was paid and spent is forgotten with its tenth of the window.
///
/// It differs in two points. Shares are thousandths of an attempt, where Tower rounds the ratio to 1/n; and a request pays
/// when it begins, not when it ends without another attempt: each pays once either way, and a service that hangs does not
/// stop its clients from paying.
#[derive(Debug, Clone)]
pub struct Budget {
    /// What it allows.
    pub allowance: Allowance,
    ledger: Arc<Ledger>,
}

/// The balance of each tenth of the window. A word holds the number of its tenth (24 bits) and what was paid less what was
/// spent in it (40 bits, biased), so that neither is read without the other.
#[derive(Debug)]
struct Ledger {
    tenth_nanos: u64,
    tenths: [AtomicU64; TENTHS],
}

impl Budget {
    /// A budget that goes on with what `previous` remembers, if its window is the same.
    pub fn new(allowance: Allowance, previous: Option<&Budget>) -> Budget {
        let same = previous.filter(|previous| previous.allowance.window == allowance.window);
        let ledger = same.map_or_else(
            || Arc::new(Ledger::new(allowance.window)),
            |previous| previous.ledger.clone(),
        );
        Budget { allowance, ledger }
    }

    /// A request begins at this moment of `observe::clock`.
    pub fn deposit(&self, now: u64) {
        let share = (self.allowance.ratio * ATTEMPT as f64).round() as i64;
        if share > 0 {
            self.ledger.add(now, share);
        }
    }

    /// Pays for a further attempt, or refuses. Attempts at the same moment never overdraw together: whoever finds the balance
    /// below zero after paying takes the payment back.
    pub fn withdraw(&self, now: u64) -> bool {
        if self.balance(now) < ATTEMPT {
            return false;
        }
        self.ledger.add(now, -ATTEMPT);
        let paid = self.balance(now) >= 0;
        if !paid {
            self.refund(now);
        }
        paid
    }

    /// Gives a payment back: the attempt was not made after all.
    pub fn refund(&self, now: u64) {
        self.ledger.add(now, ATTEMPT);
    }

    /// Further attempts it would pay for at this moment.
    pub fn available(&self, now: u64) -> u64 {
        u64::try_from(self.balance(now) / ATTEMPT).unwrap_or(0)
    }

    fn balance(&self, now: u64) -> i64 {
        let window = self.allowance.window.as_secs_f64();
        let reserve = f64::from(self.allowance.min_per_second) * window * ATTEMPT as f64;
        self.ledger.sum(now).saturating_add(reserve as i64)
    }
}

impl Ledger {
    fn new(window: Duration) -> Ledger {
        let nanos = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        Ledger {
            tenth_nanos: (nanos / TENTHS as u64).max(1),
            tenths: Default::default(),
        }
    }

    fn add(&self, now: u64, amount: i64) {
        let number = self.number(now);
        let tenth = &self.tenths[(number % TENTHS as u64) as usize];
        // The closure never refuses.
        let _ = tenth.fetch_update(Relaxed, Relaxed, |word| {
            let (of, balance) = unpack(word);
            let before = if of == number & NUMBER_MASK {
                balance
            } else {
                0
            };
            Some(pack(number, before.saturating_add(amount)))
        });
    }

    fn sum(&self, now: u64) -> i64 {
        let number = self.number(now);
        let recent = |of: u64| number.wrapping_sub(of) & NUMBER_MASK < TENTHS as u64;
        let balances = self.tenths.iter().map(|tenth| unpack(tenth.load(Relaxed)));
        balances
            .filter(|(of, _)| recent(*of))
            .map(|(_, balance)| balance)
            .sum()
    }

    fn number(&self, now: u64) -> u64 {
        now / self.tenth_nanos
    }
}

fn pack(number: u64, balance: i64) -> u64 {
    let balance = balance.clamp(1 - BIAS, BIAS - 1) + BIAS;
    (number & NUMBER_MASK) << BALANCE_BITS | balance as u64
}

/// A word of zero was never written: its balance is none.
fn unpack(word: u64) -> (u64, i64) {
    match word {
        0 => (0, 0),
        _ => {
            let balance = (word & ((1 << BALANCE_BITS) - 1)) as i64 - BIAS;
            (word >> BALANCE_BITS, balance)
        }
    }
}

/// Parts of the window that are forgotten one by one.
const TENTHS: usize = 10;

/// An attempt in the ledger's unit.
const ATTEMPT: i64 = 1000;

const BALANCE_BITS: u32 = 40;

/// Balances lie between plus and minus this: 549 million attempts in a tenth of a window.
const BIAS: i64 = 1 << (BALANCE_BITS - 1);

const NUMBER_MASK: u64 = (1 << (64 - BALANCE_BITS)) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    /// Far from zero, where tenths have never been written.
    const START: u64 = 1_000_000 * SECOND;

    fn budget(ratio: f64, min_per_second: u32) -> Budget {
        let window = Duration::from_secs(10);
        let allowance = Allowance {
            ratio,
            min_per_second,
            window,
        };
        Budget::new(allowance, None)
    }

    fn withdrawals(budget: &Budget, now: u64) -> usize {
        (0..).take_while(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn the_reserve_alone_pays_for_its_attempts_in_each_window() {
        let budget = budget(0.2, 10);

        assert_eq!(withdrawals(&budget, START), 100);
        assert_eq!(withdrawals(&budget, START + 9 * SECOND), 0);
        assert_eq!(withdrawals(&budget, START + 10 * SECOND), 100);
    }

    #[test]
    fn requests_pay_their_ratio_until_the_window_forgets_them() {
        let budget = budget(0.2, 0);
        (0..1000).for_each(|_| budget.deposit(START));

        assert_eq!(budget.available(START + 9 * SECOND), 200);
        assert_eq!(budget.available(START + 10 * SECOND), 0);
    }

    #[test]
    fn what_was_spent_is_forgotten_with_its_own_tenth_only() {
        let budget = budget(0.0, 1);

        assert_eq!(withdrawals(&budget, START), 10);
        assert_eq!(withdrawals(&budget, START + 5 * SECOND), 0);
        assert_eq!(withdrawals(&budget, START + 10 * SECOND), 10);
        assert_eq!(withdrawals(&budget, START + 15 * SECOND), 0);
    }

    #[test]
    fn odd_ratios_are_not_rounded_to_unit_fractions() {
        let budget = budget(0.3, 0);
        (0..100).for_each(|_| budget.deposit(START));

        assert_eq!(withdrawals(&budget, START), 30);
    }

    #[test]
    fn a_payment_given_back_can_be_spent_again() {
        let budget = budget(0.0, 1);
        assert_eq!(withdrawals(&budget, START), 10);

        budget.refund(START);

        assert_eq!(withdrawals(&budget, START), 1);
    }

    #[test]
    fn a_budget_with_the_same_window_goes_on_with_what_was_spent() {
        let before = budget(0.2, 10);
        assert_eq!(withdrawals(&before, START), 100);
        let changed = Allowance {
            min_per_second: 20,
            ..before.allowance
        };
        let longer = Allowance {
            window: Duration::from_secs(20),
            ..before.allowance
        };

        assert_eq!(
            withdrawals(&Budget::new(changed, Some(&before)), START),
            100
        );
        assert_eq!(withdrawals(&Budget::new(longer, Some(&before)), START), 200);
    }

    #[test]
    fn threads_together_never_spend_more_than_there_is() {
        let budget = budget(0.0, 100);
        let spent = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let own = withdrawals(&budget, START) as u64;
                    spent.fetch_add(own, Relaxed);
                });
            }
        });

        assert!(spent.load(Relaxed) <= 1000);
        assert_eq!(
            spent.load(Relaxed) + withdrawals(&budget, START) as u64,
            1000
        );
    }

    /// The law of a budget, whatever order: in no window are there more attempts than its requests and reserve pay for.
    #[test]
    fn no_window_has_more_attempts_than_ratio_and_reserve_allow() {
        let seed = 7;
        let mut random = seed;
        let budget = budget(0.25, 2);
        let mut events: Vec<(u64, bool)> = Vec::new();
        let mut now = START;
        for _ in 0..20_000 {
            random = u64::wrapping_mul(random, 6_364_136_223_846_793_005).wrapping_add(1);
            now += random >> 40;
            match random >> 33 & 3 {
                0 => {
                    budget.deposit(now);
                    events.push((now, false));
                }
                _ if budget.withdraw(now) => events.push((now, true)),
                _ => {}
            }
        }

        // A window of whole tenths may begin up to a tenth before any moment.
        for end in events.iter().map(|(at, _)| *at).step_by(97) {
            let within = |at: &u64| (end - 9 * SECOND..=end).contains(at);
            let near = |at: &u64| (end - 11 * SECOND..=end).contains(at);
            let attempts = events.iter().filter(|(at, spent)| *spent && within(at));
            let requests = events.iter().filter(|(at, spent)| !*spent && near(at));
            let allowed = requests.count() as f64 * 0.25 + 20.0;
            assert!(attempts.count() as f64 <= allowed + 1.0, "seed {seed}");
        }
    }
}
