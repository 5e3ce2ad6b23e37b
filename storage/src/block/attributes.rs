//! The attributes of a block's logs: a list of known shapes, and a column of values for each name
//! and kind of value.

use std::collections::HashMap;

use logweir_core::record::{Attribute, Value};

use super::{
    BlockError,
    bytes::{put_bytes, put_varint},
    categories, integers,
    numbers::{read_floats, write_floats},
    section::{Section, SectionReader},
    texts::{TextWriter, Texts},
    words::read_ids,
};

/// Most attributes in a block, so that a damaged one cannot fill the memory.
const VALUES_MAX: usize = 1 << 24;

const STRING: u8 = 0;
const JSON: u8 = 1;
const INT: u8 = 2;
const DOUBLE: u8 = 3;
const BOOL: u8 = 4;

const fn kind_of(value: &Value) -> u8 {
    match value {
        Value::String(_) => STRING,
        Value::Json(_) => JSON,
        Value::Int(_) => INT,
        Value::Double(_) => DOUBLE,
        Value::Bool(_) => BOOL,
    }
}

/// All values with one name and kind.
struct Column<'a> {
    key: &'a str,
    kind: u8,
    texts: Vec<&'a str>,
    integers: Vec<i64>,
    doubles: Vec<f64>,
}

impl<'a> Column<'a> {
    fn is_of(&self, attribute: &Attribute) -> bool {
        self.kind == kind_of(&attribute.value) && self.key == attribute.key
    }

    fn push(&mut self, value: &'a Value) {
        match value {
            Value::String(text) | Value::Json(text) => self.texts.push(text),
            Value::Int(number) => self.integers.push(*number),
            Value::Double(number) => self.doubles.push(*number),
            Value::Bool(truth) => self.integers.push((*truth).into()),
        }
    }
}

/// Collects attributes.
#[derive(Default)]
struct Writer<'a> {
    columns: Vec<Column<'a>>,
    column_ids: HashMap<(&'a str, u8), usize>,
    /// Which columns the attributes of a log belong to.
    shapes: Vec<Vec<usize>>,
    shape_ids: HashMap<Vec<usize>, usize>,
}

impl<'a> Writer<'a> {
    fn has_shape(&self, shape: usize, attributes: &[Attribute]) -> bool {
        let columns = &self.shapes[shape];
        columns.len() == attributes.len()
            && columns.iter().zip(attributes).all(|(column, a)| self.columns[*column].is_of(a))
    }

    fn shape_of(&mut self, attributes: &'a [Attribute]) -> usize {
        let shape: Vec<usize> = attributes.iter().map(|a| self.column_of(a)).collect();
        if let Some(known) = self.shape_ids.get(&shape) {
            return *known;
        }
        self.shapes.push(shape.clone());
        self.shape_ids.insert(shape, self.shapes.len() - 1);
        self.shapes.len() - 1
    }

    fn column_of(&mut self, attribute: &'a Attribute) -> usize {
        let (key, kind) = (attribute.key.as_str(), kind_of(&attribute.value));
        *self.column_ids.entry((key, kind)).or_insert_with(|| {
            let (texts, integers, doubles) = (Vec::new(), Vec::new(), Vec::new());
            self.columns.push(Column { key, kind, texts, integers, doubles });
            self.columns.len() - 1
        })
    }
}

/// Appends the attributes of each log; `groups` are groups of logs that are likely to be alike.
pub(super) fn write<'a>(
    logs: impl Iterator<Item = &'a [Attribute]>,
    groups: &categories::Groups<'_>,
    out: &mut Section,
    scratch: &mut Vec<i64>,
) -> Result<(), BlockError> {
    let mut writer = Writer::default();
    let mut likely = vec![None; groups.count];
    let mut shapes = Vec::with_capacity(groups.of_rows.len());
    let mut total = 0;
    for (attributes, group) in logs.zip(groups.of_rows) {
        let likely = &mut likely[*group as usize];
        let shape = match *likely {
            Some(shape) if writer.has_shape(shape, attributes) => shape,
            _ => writer.shape_of(attributes),
        };
        *likely = Some(shape);
        shapes.push(shape as u32);
        total += attributes.len();
        for (at, attribute) in attributes.iter().enumerate() {
            let column = writer.shapes[shape][at];
            writer.columns[column].push(&attribute.value);
        }
    }
    if total > VALUES_MAX {
        return Err(BlockError::TooLarge("more than 16 million attributes"));
    }
    put_varint(&mut out.symbols, writer.columns.len() as u64);
    for column in &writer.columns {
        put_bytes(&mut out.text, column.key.as_bytes());
        out.symbols.push(column.kind);
    }
    put_varint(&mut out.symbols, writer.shapes.len() as u64);
    for shape in &writer.shapes {
        put_varint(&mut out.symbols, shape.len() as u64);
        shape.iter().for_each(|column| put_varint(&mut out.symbols, *column as u64));
    }
    categories::write(&shapes, groups, out, scratch);
    writer.columns.iter().try_for_each(|column| write_column(column, out, scratch))
}

fn write_column(
    column: &Column<'_>,
    out: &mut Section,
    scratch: &mut Vec<i64>,
) -> Result<(), BlockError> {
    match column.kind {
        STRING | JSON => {
            let mut texts = TextWriter::new(column.texts.len());
            column.texts.iter().for_each(|text| texts.push(text, |_| {}));
            texts.write_ids(out, scratch);
            texts.write_texts(out, scratch)?;
        }
        DOUBLE => write_floats(&column.doubles, out, scratch),
        _ => integers::write(&column.integers, out),
    }
    Ok(())
}

/// The values of a column read back.
#[derive(Debug)]
enum Values {
    String(Texts),
    Json(Texts),
    Int(Vec<i64>),
    Double(Vec<f64>),
    Bool(Vec<i64>),
}

/// The attributes read back.
#[derive(Debug)]
pub(super) struct Attributes {
    columns: Vec<(String, Values)>,
    shapes: Vec<Vec<u32>>,
    shape_of_rows: Vec<u32>,
    /// Where each log's values begin in `positions`.
    starts: Vec<u32>,
    /// The position of each value in its column.
    positions: Vec<u32>,
}

impl Attributes {
    /// Reads what [`write`] wrote.
    pub(super) fn read(
        groups: &categories::Groups<'_>,
        from: &mut SectionReader<'_>,
    ) -> Result<Self, BlockError> {
        let mut heads = Vec::new();
        for _ in 0..from.symbols.count()? {
            heads.push((from.text.text()?.to_owned(), from.symbols.byte()?));
        }
        let mut shapes = Vec::new();
        for _ in 0..from.symbols.count()? {
            let mut shape = Vec::new();
            for _ in 0..from.symbols.count()? {
                let column = from.symbols.varint()?;
                if column >= heads.len() as u64 {
                    return Err(BlockError::Corrupt("an attribute has no column"));
                }
                shape.push(column as u32);
            }
            shapes.push(shape);
        }
        let shape_of_rows = categories::read(shapes.len(), groups, from)?;
        let (starts, positions, counts) = lay_out(&shapes, &shape_of_rows, heads.len())?;
        let mut columns = Vec::new();
        for ((key, kind), count) in heads.into_iter().zip(counts) {
            columns.push((key, Values::read(kind, count as usize, from)?));
        }
        Ok(Self { columns, shapes, shape_of_rows, starts, positions })
    }

    /// All attributes of a log.
    pub(super) fn all(&self, row: usize) -> Result<Vec<Attribute>, BlockError> {
        let value = |(column, position): (&u32, &u32)| {
            let (key, values) = &self.columns[*column as usize];
            Ok(Attribute { key: key.clone(), value: values.get(*position as usize)? })
        };
        let shape = &self.shapes[self.shape_of_rows[row] as usize];
        shape.iter().zip(&self.positions[self.starts[row] as usize..]).map(value).collect()
    }

    /// The attribute of a log with this name.
    pub(super) fn get(&self, row: usize, key: &str) -> Result<Option<Value>, BlockError> {
        let shape = &self.shapes[self.shape_of_rows[row] as usize];
        let at = shape.iter().position(|column| self.columns[*column as usize].0 == key);
        at.map(|at| {
            let position = self.positions[self.starts[row] as usize + at];
            self.columns[shape[at] as usize].1.get(position as usize)
        })
        .transpose()
    }
}

/// Where each log's values are, and how many each column has.
#[expect(clippy::type_complexity, reason = "three columns that are made together")]
fn lay_out(
    shapes: &[Vec<u32>],
    shape_of_rows: &[u32],
    columns: usize,
) -> Result<(Vec<u32>, Vec<u32>, Vec<u32>), BlockError> {
    let total: usize = shape_of_rows.iter().map(|shape| shapes[*shape as usize].len()).sum();
    if total > VALUES_MAX {
        return Err(BlockError::Corrupt("too many attributes"));
    }
    let mut counts = vec![0_u32; columns];
    let mut starts = Vec::with_capacity(shape_of_rows.len());
    let mut positions = Vec::with_capacity(total);
    for shape in shape_of_rows {
        starts.push(positions.len() as u32);
        for column in &shapes[*shape as usize] {
            let count = &mut counts[*column as usize];
            positions.push(*count);
            *count += 1;
        }
    }
    Ok((starts, positions, counts))
}

impl Values {
    fn read(kind: u8, count: usize, from: &mut SectionReader<'_>) -> Result<Self, BlockError> {
        let texts = |from: &mut SectionReader<'_>| {
            let ids = read_ids(count, count, from)?;
            Texts::read(ids.into_iter().map(|id| id as u32).collect(), from)
        };
        match kind {
            STRING => texts(from).map(Self::String),
            JSON => texts(from).map(Self::Json),
            INT => integers::read(count, from).map(Self::Int),
            DOUBLE => read_floats(count, from).map(Self::Double),
            BOOL => integers::read(count, from).map(Self::Bool),
            _ => Err(BlockError::Corrupt("an attribute is of an unknown kind")),
        }
    }

    fn get(&self, position: usize) -> Result<Value, BlockError> {
        Ok(match self {
            Self::String(texts) => Value::String(texts.get(position)?),
            Self::Json(texts) => Value::Json(texts.get(position)?),
            Self::Int(numbers) => Value::Int(numbers[position]),
            Self::Double(numbers) => Value::Double(numbers[position]),
            Self::Bool(truths) => Value::Bool(truths[position] != 0),
        })
    }
}
