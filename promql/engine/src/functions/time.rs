//! The calendar (proleptic Gregorian, UTC) behind the date functions.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
    /// 0 is Sunday.
    pub weekday: u8,
    /// From 1.
    pub day_of_year: u16,
}

pub(crate) fn is_leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

pub(crate) fn days_in_month(year: i64, month: u8) -> u8 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl Civil {
    /// Of a float of seconds; its fraction is cut off.
    pub fn of(seconds: f64) -> Civil {
        Civil::of_seconds(seconds as i64)
    }

    pub fn of_seconds(seconds: i64) -> Civil {
        let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Days since 0000-03-01, in 400-year eras of 146,097 days; a year that begins in March has its leap day last.
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let day_of_era = z.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let march_day = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * march_day + 2) / 153;
        let day = march_day - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let before: i64 = (1..month as u8).map(|m| i64::from(days_in_month(year, m))).sum();
        Civil {
            year,
            month: month as u8,
            day: day as u8,
            hour: (rest / 3600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
            weekday: (days + 4).rem_euclid(7) as u8,
            day_of_year: (before + day) as u16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let of = |s: i64| {
            let c = Civil::of_seconds(s);
            (c.year, c.month, c.day, c.weekday, c.day_of_year)
        };
        assert_eq!(of(0), (1970, 1, 1, 4, 1));
        assert_eq!(of(951_782_400), (2000, 2, 29, 2, 60));
        assert_eq!(of(1_735_603_200), (2024, 12, 31, 2, 366));
        assert_eq!(of(-86_400), (1969, 12, 31, 3, 365));
        let c = Civil::of_seconds(1_136_239_445);
        assert_eq!((c.hour, c.minute, c.second), (22, 4, 5));
    }
}
