//! How values lie in the tables: times and ids.

use std::error::Error;

use bytes::BytesMut;
use logweir_core::timestamp::Timestamp;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

/// Microseconds from 1970 to 2000, where PostgreSQL begins to count.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A `timestamptz`, as microseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Timestamptz(pub(super) i64);

impl Timestamptz {
    /// The microsecond that a time falls into, and its nanoseconds below that.
    pub(super) const fn of(time: Timestamp) -> (Self, i16) {
        let unix_nano = time.as_unix_nanos();
        (Self(unix_nano.div_euclid(1_000)), unix_nano.rem_euclid(1_000) as i16)
    }

    /// The other way round.
    pub(super) const fn with_nanos(self, nanos: i16) -> Timestamp {
        let micros = self.0.saturating_mul(1_000);
        Timestamp::from_unix_nanos(micros.saturating_add(nanos as i64))
    }

    pub(super) const fn of_seconds(unix_seconds: i64) -> Self {
        Self(unix_seconds.saturating_mul(1_000_000))
    }

    pub(super) const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// As PostgreSQL counts: microseconds since 2000.
    pub(super) const fn to_wire(self) -> i64 {
        self.0.saturating_sub(EPOCH_MICROS)
    }
}

impl ToSql for Timestamptz {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.to_wire().to_be_bytes());
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Timestamptz {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?).saturating_add(EPOCH_MICROS)))
    }

    accepts!(TIMESTAMPTZ);
}

/// A `uuid`, which is any 16 bytes; a batch's id need not be a UUID of any version.
// Half the size of the same bytes in hexadecimal, and shown by psql as people write them; `bytea`
// would have a head of its own in every row and index entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id(pub(super) [u8; 16]);

impl ToSql for Id {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    accepts!(UUID);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Id {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw.try_into()?))
    }

    accepts!(UUID);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_time_comes_back_to_the_nanosecond(unix_nano: i64) {
            let time = Timestamp::from_unix_nanos(unix_nano);
            let (timestamp, nanos) = Timestamptz::of(time);
            prop_assert!((0..1_000).contains(&nanos));
            prop_assert_eq!(timestamp.with_nanos(nanos), time);
            let mut bytes = BytesMut::new();
            timestamp.to_sql(&Type::TIMESTAMPTZ, &mut bytes).unwrap();
            prop_assert_eq!(Timestamptz::from_sql(&Type::TIMESTAMPTZ, &bytes).unwrap(), timestamp);
        }
    }
}
