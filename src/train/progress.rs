//! What a progress line says: how much is done, how fast, and how long the rest takes. It has no clock of its own.

use std::fmt;

/// The progress of work on a number of pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    total: u64,
    done: u64,
    /// The time of the last call, in seconds.
    now: f64,
    /// Pictures and seconds, of which older ones count less.
    pictures: f64,
    seconds: f64,
}

/// The number of seconds after which a measurement counts 1/e of a new one.
const MEMORY: f64 = 10.0;

impl Progress {
    /// Work that begins at the time `now`, in seconds.
    pub fn new(total: u64, now: f64) -> Self {
        Progress { total, done: 0, now, pictures: 0.0, seconds: 0.0 }
    }

    /// Reports that `done` pictures, counted from the beginning, are done at the time `now`, in seconds. A time before
    /// the last one is taken as the last one.
    pub fn advance(&mut self, done: u64, now: f64) {
        let passed = (now - self.now).max(0.0);
        let keep = (-passed / MEMORY).exp();
        self.pictures = self.pictures * keep + done.saturating_sub(self.done) as f64;
        self.seconds = self.seconds * keep + passed;
        self.now = self.now.max(now);
        self.done = done;
    }

    /// Pictures a second, smoothed over about 10 seconds. `None` before anything is done.
    pub fn speed(&self) -> Option<f64> {
        Some(self.pictures / self.seconds).filter(|speed| *speed > 0.0 && speed.is_finite())
    }

    /// The number of seconds that the rest takes at this speed. `None` before anything is done.
    pub fn left(&self) -> Option<f64> {
        Some(self.total.saturating_sub(self.done) as f64 / self.speed()?)
    }

    /// The share that is done, as a bar of `width` characters: `####----`.
    pub fn bar(&self, width: usize) -> String {
        let share = if self.total == 0 { 1.0 } else { (self.done as f64 / self.total as f64).min(1.0) };
        let full = (share * width as f64) as usize;
        "#".repeat(full) + &"-".repeat(width - full)
    }
}

/// Writes `  312/2000  48.1 pictures/s  35 s left`. The first number is as wide as the second, so that lines that follow
/// each other do not move.
impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total.to_string();
        write!(f, "{:>width$}/{total}", self.done, width = total.len() + 1)?;
        let (Some(speed), Some(left)) = (self.speed(), self.left()) else { return Ok(()) };
        let decimals = match speed {
            ..1.0 => 2,
            1.0..100.0 => 1,
            _ => 0,
        };
        write!(f, "  {speed:.decimals$} pictures/s")?;
        if self.done < self.total { write!(f, "  {} left", duration(left)) } else { Ok(()) }
    }
}

/// A number of seconds for people: `35 s`, `4 min 05 s`, `1 h 07 min`, `2 d 03 h`.
pub fn duration(seconds: f64) -> String {
    // The conversion saturates, and gives 0 for NaN.
    let seconds = seconds.round() as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    if days > 0 {
        format!("{days} d {:02} h", hours % 24)
    } else if hours > 0 {
        format!("{hours} h {:02} min", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes} min {:02} s", seconds % 60)
    } else {
        format!("{seconds} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_much_how_fast_and_how_long() {
        let mut progress = Progress::new(2000, 100.0);
        assert_eq!(progress.to_string(), "    0/2000");
        for i in 1..=39 {
            progress.advance(i * 8, 100.0 + i as f64 * 8.0 / 48.1);
        }
        assert_eq!(progress.to_string(), "  312/2000  48.1 pictures/s  35 s left");
        progress.advance(2000, 200.0);
        assert!(progress.to_string().starts_with(" 2000/2000  ") && !progress.to_string().contains("left"));
        let mut slow = Progress::new(10, 0.0);
        slow.advance(1, 8.0);
        assert_eq!(slow.to_string(), "  1/10  0.12 pictures/s  1 min 12 s left");
        let mut fast = Progress::new(100_000, 0.0);
        fast.advance(1234, 1.0);
        assert_eq!(fast.to_string(), "   1234/100000  1234 pictures/s  1 min 20 s left");
    }

    #[test]
    fn the_speed_follows_changes_but_not_single_steps() {
        let mut progress = Progress::new(100_000, 0.0);
        assert_eq!((progress.speed(), progress.left()), (None, None));
        let (mut now, mut done) = (0.0, 0);
        let mut run = |progress: &mut Progress, seconds: f64, steps: u32| {
            for _ in 0..steps {
                (now, done) = (now + seconds, done + 10);
                progress.advance(done, now);
            }
            progress.speed().unwrap()
        };
        // The first measurement already gives the speed, without a bias towards 0.
        assert!((run(&mut progress, 0.1, 1) - 100.0).abs() < 1e-9);
        assert!((run(&mut progress, 0.1, 300) - 100.0).abs() < 1e-9);
        // A single slow step changes it a little, and 30 s at another speed change it completely.
        let after_one = run(&mut progress, 0.5, 1);
        assert!((90.0..99.0).contains(&after_one), "{after_one}");
        let after_many = run(&mut progress, 0.2, 200);
        assert!((50.0..52.0).contains(&after_many), "{after_many}");
    }

    #[test]
    fn nothing_divides_by_zero() {
        let mut progress = Progress::new(0, 5.0);
        assert_eq!((progress.to_string().as_str(), progress.bar(4).as_str()), (" 0/0", "####"));
        progress.advance(0, 5.0);
        progress.advance(3, 5.0);
        progress.advance(3, 1.0);
        assert_eq!((progress.speed(), progress.bar(4).as_str()), (None, "####"));
        let mut progress = Progress::new(8, 0.0);
        progress.advance(3, 1.0);
        assert_eq!(progress.bar(8), "###-----");
    }

    #[test]
    fn durations_are_for_people() {
        let cases = [
            (0.4, "0 s"),
            (59.4, "59 s"),
            (59.6, "1 min 00 s"),
            (245.0, "4 min 05 s"),
            (4020.0, "1 h 07 min"),
            (183_600.0, "2 d 03 h"),
            (f64::NAN, "0 s"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
        assert!(duration(f64::INFINITY).ends_with(" h"));
    }
}
