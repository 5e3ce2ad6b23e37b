//! Statements put together from fixed text and values. Values never become text: each is bound to a
//! placeholder with its type, in a statement without a name, so that nothing of a session is
//! needed.

use std::error::Error;

use bytes::BytesMut;
use deadpool_postgres::Transaction;
use logweir_core::timestamp::Timestamp;
use tokio_postgres::{
    Row, RowStream,
    types::{IsNull, ToSql, Type, to_sql_checked},
};

use super::values::{Id, Timestamptz};

/// A value to bind.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Bytes(Vec<u8>),
    Double(f64),
    Id(Id),
    Int(i32),
    Ints(Vec<i32>),
    Long(i64),
    Longs(Vec<i64>),
    MaybeLong(Option<i64>),
    Real(f32),
    Small(i16),
    Smalls(Vec<i16>),
    Text(String),
    Texts(Vec<String>),
    Time(Timestamptz),
}

impl Value {
    /// A moment, for a column whose name ends so.
    pub(super) const fn unix_nano(time: Timestamp) -> Self {
        Self::Long(time.as_unix_nanos())
    }

    /// A moment that may be missing, for a column whose name ends so.
    pub(super) fn maybe_unix_nano(time: Option<Timestamp>) -> Self {
        Self::MaybeLong(time.map(Timestamp::as_unix_nanos))
    }

    const fn kind(&self) -> Type {
        match self {
            Self::Bool(_) => Type::BOOL,
            Self::Bytes(_) => Type::BYTEA,
            Self::Double(_) => Type::FLOAT8,
            Self::Id(_) => Type::UUID,
            Self::Int(_) => Type::INT4,
            Self::Ints(_) => Type::INT4_ARRAY,
            Self::Long(_) | Self::MaybeLong(_) => Type::INT8,
            Self::Longs(_) => Type::INT8_ARRAY,
            Self::Real(_) => Type::FLOAT4,
            Self::Small(_) => Type::INT2,
            Self::Smalls(_) => Type::INT2_ARRAY,
            Self::Text(_) => Type::TEXT,
            Self::Texts(_) => Type::TEXT_ARRAY,
            Self::Time(_) => Type::TIMESTAMPTZ,
        }
    }

    fn inner(&self) -> &dyn ToSql {
        match self {
            Self::Bool(value) => value,
            Self::Bytes(value) => value,
            Self::Double(value) => value,
            Self::Id(value) => value,
            Self::Int(value) => value,
            Self::Ints(value) => value,
            Self::Long(value) => value,
            Self::Longs(value) => value,
            Self::MaybeLong(value) => value,
            Self::Real(value) => value,
            Self::Small(value) => value,
            Self::Smalls(value) => value,
            Self::Text(value) => value,
            Self::Texts(value) => value,
            Self::Time(value) => value,
        }
    }
}

impl ToSql for Value {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.inner().to_sql_checked(kind, out)
    }

    // Its type is sent along with the statement, so that there is none that could differ.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// A part of a statement.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    Text(&'static str),
    Value(Value),
}

impl From<&'static str> for Piece {
    fn from(text: &'static str) -> Self {
        Self::Text(text)
    }
}

impl From<Value> for Piece {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

/// A statement in the making.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Statement {
    text: String,
    values: Vec<Value>,
}

impl Statement {
    pub(super) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), values: Vec::new() }
    }

    /// Goes on with text of the program's own.
    pub(super) fn text(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self
    }

    /// Goes on with a value.
    pub(super) fn value(mut self, value: Value) -> Self {
        self.values.push(value);
        self.text.push_str(&format!("${}", self.values.len()));
        self
    }

    /// Goes on with pieces.
    pub(super) fn pieces(self, pieces: impl IntoIterator<Item = Piece>) -> Self {
        pieces.into_iter().fold(self, |statement, piece| match piece {
            Piece::Text(text) => statement.text(text),
            Piece::Value(value) => statement.value(value),
        })
    }

    /// Goes on with values in brackets.
    pub(super) fn list(self, values: impl IntoIterator<Item = Value>) -> Self {
        let mut between = "(";
        let listed = values.into_iter().fold(self, |statement, value| {
            statement.text(std::mem::replace(&mut between, ", ")).value(value)
        });
        listed.text(")")
    }

    fn into_parts(self) -> (String, Vec<(Value, Type)>) {
        let typed = |value: Value| {
            let kind = value.kind();
            (value, kind)
        };
        (self.text, self.values.into_iter().map(typed).collect())
    }

    /// All rows at once: for answers with a limit.
    pub(super) async fn rows(
        self,
        db: &Transaction<'_>,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let (text, values) = self.into_parts();
        let values: Vec<_> = values
            .iter()
            .map(|(value, kind)| (value as &(dyn ToSql + Sync), kind.clone()))
            .collect();
        // Typed calls need no statement prepared on the server: prepared ones have a name, which is
        // unknown to the next connection that PgBouncer gives. It also saves a round trip.
        db.query_typed(&text, &values).await
    }

    /// Row by row.
    pub(super) async fn stream(
        self,
        db: &Transaction<'_>,
    ) -> Result<RowStream, tokio_postgres::Error> {
        let (text, values) = self.into_parts();
        db.query_typed_raw(&text, values).await
    }

    /// How many rows it changed.
    pub(super) async fn execute(self, db: &Transaction<'_>) -> Result<u64, tokio_postgres::Error> {
        let (text, values) = self.into_parts();
        let values: Vec<_> = values
            .iter()
            .map(|(value, kind)| (value as &(dyn ToSql + Sync), kind.clone()))
            .collect();
        db.execute_typed(&text, &values).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_numbered_and_never_text() {
        let statement = Statement::new("SELECT 1 WHERE a = ")
            .value(Value::Text("'; DROP TABLE logs; --".into()))
            .pieces([" AND b = ".into(), Value::Long(7).into()]);
        assert_eq!(statement.text, "SELECT 1 WHERE a = $1 AND b = $2");
        assert_eq!(statement.values.len(), 2);
    }
}
