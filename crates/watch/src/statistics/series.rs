//! Series: values gathered over a window of time, in slots that are forgotten one by one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use switchroom_kernel::Kernel;

/// Series that one profile may have.
const MAX_SERIES: usize = 1024;
/// Slots that one series may have, 24 bytes each.
const MAX_SLOTS: u64 = 86_400;

/// What a series says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// The sum of the values.
    Accumulate,
    /// Their average.
    Average,
    /// How many of them are positive, of `percentage_factor`.
    Percentage,
}

/// A kind of series, as a parameter describes it.
#[derive(Debug)]
pub struct Profile {
    /// Name.
    pub name: String,
    group: String,
    algorithm: Algorithm,
    window: Duration,
    slots: usize,
    factor: i64,
    series: Mutex<HashMap<String, Arc<Mutex<Series>>>>,
}

impl Profile {
    /// Read `"name: algorithm=average window=600 slots=10"`.
    pub fn parse(text: &str) -> Result<Profile, String> {
        let wrong = |why: String| format!("stat_series_profile \"{text}\": {why}");
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let name = name.trim();
        if name.is_empty() {
            return Err(wrong("the name is missing".into()));
        }
        let (mut algorithm, mut group) = (Algorithm::Accumulate, name.to_owned());
        let (mut window, mut slots, mut factor) = (60u64, None, 100);
        for item in rest.split([' ', '\t', ';', ',']).filter(|i| !i.is_empty()) {
            let (key, value) =
                item.split_once('=').ok_or_else(|| wrong(format!("\"{item}\" is not attribute=value")))?;
            let number = || match value.parse::<u64>() {
                Ok(n) if n > 0 => Ok(n),
                _ => Err(wrong(format!("{key} is a positive integer, not \"{value}\""))),
            };
            match key {
                "algorithm" => {
                    algorithm = match value {
                        "accumulate" => Algorithm::Accumulate,
                        "average" => Algorithm::Average,
                        "percentage" => Algorithm::Percentage,
                        _ => return Err(wrong("algorithm is accumulate, average or percentage".into())),
                    }
                }
                // A size of tables, which grow by themselves here.
                "hash_size" => drop(number()?),
                "group" => group = value.to_owned(),
                "window" => window = number()?,
                "slots" => slots = Some(number()?),
                "percentage_factor" => factor = number()? as i64,
                _ => return Err(wrong(format!("there is no attribute \"{key}\""))),
            }
        }
        let slots = slots.unwrap_or(window).min(MAX_SLOTS) as usize;
        let window = Duration::from_secs(window);
        let name = name.to_owned();
        Ok(Profile { name, group, algorithm, window, slots, factor, series: Mutex::default() })
    }

    /// Feed a value into the series of this name; it is made, and registered as a statistic, when there is none.
    pub fn feed(&self, kernel: &Kernel, name: &str, value: i64) -> Result<(), String> {
        let now = kernel.drivers.clock.now();
        let mut all = self.series.lock();
        if let Some(series) = all.get(name) {
            series.lock().add(now, value);
            return Ok(());
        }
        if all.len() >= MAX_SERIES {
            return Err(format!("profile \"{}\" has {MAX_SERIES} series already", self.name));
        }
        let mut first = Series::new(now, self.window, self.slots);
        first.add(now, value);
        let series = Arc::new(Mutex::new(first));
        all.insert(name.to_owned(), series.clone());
        drop(all);
        let (clock, algorithm, factor) = (kernel.drivers.clock.clone(), self.algorithm, self.factor);
        kernel.stats.computed(&self.group, name, "Series defined by the script", move || {
            series.lock().value(clock.now(), algorithm, factor)
        });
        Ok(())
    }
}

/// What fell into one slot.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    sum: i64,
    count: i64,
    positive: i64,
}

/// One series.
#[derive(Debug)]
struct Series {
    start: Instant,
    step: Duration,
    /// Number of the newest slot since the start.
    newest: u64,
    slots: Vec<Slot>,
}

impl Series {
    fn new(start: Instant, window: Duration, slots: usize) -> Series {
        let slots = slots.max(1);
        let step = (window / slots as u32).max(Duration::from_millis(1));
        Series { start, step, newest: 0, slots: vec![Slot::default(); slots] }
    }

    /// Forget what is older than the window.
    fn move_to(&mut self, now: Instant) {
        let at = (now.saturating_duration_since(self.start).as_nanos() / self.step.as_nanos()) as u64;
        let count = self.slots.len() as u64;
        let first = (self.newest + 1).max(at.saturating_sub(count - 1));
        for number in first..=at {
            self.slots[(number % count) as usize] = Slot::default();
        }
        self.newest = self.newest.max(at);
    }

    fn add(&mut self, now: Instant, value: i64) {
        self.move_to(now);
        let at = (self.newest % self.slots.len() as u64) as usize;
        let slot = &mut self.slots[at];
        slot.sum = slot.sum.saturating_add(value);
        slot.count += 1;
        slot.positive += i64::from(value > 0);
    }

    fn value(&mut self, now: Instant, algorithm: Algorithm, factor: i64) -> i64 {
        self.move_to(now);
        let (mut sum, mut count, mut positive) = (0i64, 0i64, 0i64);
        for slot in &self.slots {
            sum = sum.saturating_add(slot.sum);
            count += slot.count;
            positive += slot.positive;
        }
        match algorithm {
            Algorithm::Accumulate => sum,
            _ if count == 0 => 0,
            Algorithm::Average => sum / count,
            Algorithm::Percentage => positive.saturating_mul(factor) / count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_leave_with_the_window() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut s = Series::new(start, Duration::from_secs(60), 6);
        s.add(at(0), 10);
        s.add(at(5), 20);
        s.add(at(30), -6);
        assert_eq!(s.value(at(59), Algorithm::Accumulate, 100), 24);
        assert_eq!(s.value(at(59), Algorithm::Average, 100), 8);
        assert_eq!(s.value(at(59), Algorithm::Percentage, 1000), 666);
        assert_eq!(s.value(at(60), Algorithm::Accumulate, 100), -6);
        assert_eq!(s.value(at(10_000), Algorithm::Average, 100), 0);
        s.add(at(10_001), 4);
        assert_eq!(s.value(at(10_002), Algorithm::Accumulate, 100), 4);
    }

    #[test]
    fn profiles_are_read_with_their_defaults() {
        let p = Profile::parse("avg: algorithm=average").unwrap();
        assert_eq!((p.name.as_str(), p.group.as_str(), p.algorithm), ("avg", "avg", Algorithm::Average));
        assert_eq!((p.window.as_secs(), p.slots, p.factor), (60, 60, 100));
        let p = Profile::parse("x: algorithm=percentage window=3600 slots=6 group=g hash_size=4").unwrap();
        assert_eq!((p.group.as_str(), p.window.as_secs(), p.slots), ("g", 3600, 6));
        for bad in ["", ": window=1", "a: window", "a: window=0", "a: algorithm=median", "a: colour=red"] {
            assert!(Profile::parse(bad).is_err(), "{bad}");
        }
    }
}
