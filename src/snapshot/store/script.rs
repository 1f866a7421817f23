//! The scripts that run inside the store, one round trip each, and what their answers mean.
//! It must not know connections. Scripts use the store's own clock, so that proxies need not agree on the time.
//! Loaded by `control::stores` when it connects; run by `Cell`.

use std::time::Duration;

use redis::Value;
use windrose_plugins::contract::{Granted, TokenLaw, WindowLaw, Wish};

/// What can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// Takes tokens from a bucket.
    Take,
    /// Adds uses to a window.
    Window,
    /// Adds to a count that ends.
    Count,
}

impl Script {
    /// All of them, in the order of [`Link`](super::Link)'s names.
    pub const ALL: [Script; 3] = [Script::Take, Script::Window, Script::Count];

    /// Its text.
    pub fn text(self) -> &'static str {
        match self {
            Script::Take => TAKE,
            Script::Window => WINDOW,
            Script::Count => COUNT,
        }
    }
}

/// A script's arguments after the key.
pub(super) type Arguments = Vec<u64>;

pub(super) fn take(law: TokenLaw, wish: Wish) -> Arguments {
    let mut arguments = vec![law.rate.max(1), micros(law.per), law.burst.max(1)];
    arguments.extend(wished(wish));
    arguments
}

pub(super) fn window(law: WindowLaw, wish: Wish) -> Arguments {
    let mut arguments = vec![law.limit.max(1), micros(law.per)];
    arguments.extend(wished(wish));
    arguments
}

pub(super) fn count(limit: u64, wish: Wish, until: Duration) -> Arguments {
    let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
    let mut arguments = vec![limit, until];
    arguments.extend(wished(wish));
    arguments
}

/// The least, the most, and what kind of wish it is.
fn wished(wish: Wish) -> [u64; 3] {
    match wish {
        Wish::Take { least, most } => [least.max(1), most, 0],
        Wish::Owe(uses) => [1, uses, 1],
        Wish::Return(uses) => [1, uses, 2],
    }
}

/// Lua counts in floating point numbers, which are exact up to 2^53: far more than ten years of microseconds.
fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1)
}

/// What a script answered; `None` for what none of ours says.
pub(super) fn granted(value: &Value) -> Option<Granted> {
    let Value::Array(items) = value else {
        return None;
    };
    let number = |at: usize| match items.get(at) {
        Some(Value::Int(number)) => u64::try_from(*number).ok(),
        _ => None,
    };
    let micros = |at: usize| number(at).map(Duration::from_micros);
    Some(Granted {
        granted: number(0)?,
        remaining: number(1)?,
        next: micros(2)?,
        full: micros(3)?,
    })
}

/// Levels are written with all their digits: a slow bucket that is asked all the time grows by tiny steps. What is refused writes
/// nothing, as the growth can be found again from what is there.
const TAKE: &str = r"
local rate, per, burst = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local least, most, kind = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local kept = redis.call('HMGET', KEYS[1], 'level', 'at')
local level = math.min(burst, tonumber(kept[1]) or burst)
local at = tonumber(kept[2]) or now
if now > at then
  level = math.min(burst, level + (now - at) * rate / per)
  at = now
end
local granted, need = 0, 1
if kind == '1' then
  granted = most
elseif kind == '2' then
  granted = -most
elseif level >= least then
  granted = math.min(most, math.floor(level))
else
  need = least
end
level = math.max(-1000000000, math.min(burst, level - granted))
local full = math.ceil((burst - level) * per / rate)
if granted ~= 0 then
  redis.call('HSET', KEYS[1], 'level', string.format('%.17g', level), 'at', string.format('%.0f', at))
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.min(math.ceil(full / 1000) + 1000, 315360000000)))
end
local next = 0
if level < need then next = math.ceil((need - level) * per / rate) end
local longest = 315360000000000
return {math.max(0, granted), math.max(0, math.floor(level)), math.min(next, longest), math.min(full, longest)}
";

/// The uses of the window before fade with the time that has passed in this one.
const WINDOW: &str = r"
local limit, per = tonumber(ARGV[1]), tonumber(ARGV[2])
local least, most, kind = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local index = math.floor(now / per)
local gone = now - index * per
local kept = redis.call('HMGET', KEYS[1], 'index', 'count', 'before')
local at, count, before = tonumber(kept[1]) or index, tonumber(kept[2]) or 0, tonumber(kept[3]) or 0
if at == index - 1 then
  before, count = count, 0
elseif at < index then
  before, count = 0, 0
end
local used = count + before * (per - gone) / per
local free = math.floor(limit - used)
local granted, need = 0, 1
if kind == '1' then
  granted = most
elseif kind == '2' then
  granted = -math.min(most, count)
elseif free >= least then
  granted = math.min(most, free)
else
  need = math.min(least, limit)
end
if granted ~= 0 then
  count, used = count + granted, used + granted
  redis.call('HSET', KEYS[1], 'index', string.format('%.0f', index), 'count', string.format('%.0f', count), 'before', string.format('%.0f', before))
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil((2 * per - gone) / 1000) + 1000))
end
local next = 0
if used + need > limit then
  if count + need <= limit then
    next = per - (limit - need - count) * per / before - gone
  else
    next = per - gone + per - (limit - need) * per / count
  end
end
local full = 0
if count > 0 then full = 2 * per - gone elseif before > 0 then full = per - gone end
return {math.max(0, granted), math.max(0, math.floor(limit - used)), math.max(0, math.ceil(next)), math.ceil(full)}
";

const COUNT: &str = r"
local limit = tonumber(ARGV[1])
local least, most, kind = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local used = tonumber(redis.call('GET', KEYS[1])) or 0
local granted = 0
if kind == '1' then
  granted = most
elseif kind == '2' then
  granted = -math.min(most, used)
elseif limit - used >= least then
  granted = math.min(most, limit - used)
end
if granted ~= 0 then
  redis.call('INCRBY', KEYS[1], string.format('%.0f', granted))
  redis.call('PEXPIREAT', KEYS[1], ARGV[2])
end
return {math.max(0, granted), math.max(0, limit - used - granted), 0, 0}
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_our_scripts_say_is_understood() {
        let ints =
            |numbers: &[i64]| Value::Array(numbers.iter().copied().map(Value::Int).collect());

        let understood = granted(&ints(&[1, 2, 3_000, 4_000]));

        assert_eq!(
            understood,
            Some(Granted {
                granted: 1,
                remaining: 2,
                next: Duration::from_millis(3),
                full: Duration::from_millis(4),
            })
        );
        assert_eq!(granted(&ints(&[1, 2, 3])), None);
        assert_eq!(granted(&ints(&[-1, 2, 3, 4])), None);
        assert_eq!(granted(&Value::Okay), None);
    }
}
