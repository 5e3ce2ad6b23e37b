//! The attributes of a block's logs: a list of known shapes, and a column of values for each name
//! and kind of value.

use std::collections::HashMap;

use logweir_core::{
    filter::{Phrase, PhraseBits, PhraseSet, has_phrase},
    record::{Attribute, Value},
};

use super::{
    BlockError,
    bytes::{put_bytes, put_varint},
    categories::{self, CategoryWriter},
    integers,
    numbers::{read_floats, write_floats},
    section::{Section, SectionReader},
    texts::{KnownSkeletons, PhraseMatch, TextWriter, Texts},
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
// By kind as well: a name whose values are now numbers and now texts makes two columns, each of
// which is coded as what it is.
struct Column<'a> {
    key: &'a str,
    kind: u8,
    texts: TextWriter<'a>,
    integers: Vec<i64>,
    doubles: Vec<f64>,
}

impl<'a> Column<'a> {
    fn new(key: &'a str, kind: u8) -> Self {
        let (integers, doubles) = (Vec::new(), Vec::new());
        Self { key, kind, texts: TextWriter::default(), integers, doubles }
    }

    fn is_of(&self, attribute: &Attribute) -> bool {
        self.kind == kind_of(&attribute.value) && self.key == attribute.key
    }

    fn push(&mut self, value: &'a Value) {
        match value {
            Value::String(text) | Value::Json(text) => {
                self.texts.push(text, |_| {});
            }
            Value::Int(number) => self.integers.push(*number),
            Value::Double(number) => self.doubles.push(*number),
            Value::Bool(truth) => self.integers.push((*truth).into()),
        }
    }

    fn push_read(&mut self, values: &'a Values, position: usize, known: &mut KnownSkeletons) {
        match values {
            Values::String(texts) | Values::Json(texts) => {
                self.texts.push_split(texts, position, known, |_| {});
            }
            Values::Int(numbers) | Values::Bool(numbers) => self.integers.push(numbers[position]),
            Values::Double(numbers) => self.doubles.push(numbers[position]),
        }
    }

    fn write(&self, out: &mut Section) -> Result<(), BlockError> {
        match self.kind {
            STRING | JSON => {
                self.texts.write_ids(out);
                self.texts.write_texts(out)?;
            }
            DOUBLE => write_floats(&self.doubles, out),
            _ => integers::write(&self.integers, out),
        }
        Ok(())
    }

    /// About how long its names and values would be as text, bytes.
    fn text_bytes(&self) -> usize {
        let numbers = self.integers.len() + self.doubles.len();
        let values = numbers + self.texts.text_count();
        values * self.key.len() + numbers * 8 + self.texts.text_bytes()
    }
}

/// Collects attributes.
#[derive(Default)]
pub(super) struct AttributeWriter<'a> {
    columns: Vec<Column<'a>>,
    column_ids: HashMap<(&'a str, u8), u32>,
    /// Which columns the attributes of a log belong to.
    shapes: Vec<Vec<u32>>,
    shape_ids: HashMap<Vec<u32>, u32>,
    shape_of_rows: CategoryWriter,
    count: usize,
}

/// What a block's columns and shapes became in another.
#[derive(Debug, Default)]
pub(super) struct KnownAttributes {
    shapes: Vec<Option<u32>>,
    skeletons: Vec<KnownSkeletons>,
}

impl<'a> AttributeWriter<'a> {
    /// Adds the attributes of a log of a group.
    pub(super) fn push(&mut self, group: u32, attributes: &'a [Attribute]) {
        // Messages of one pattern mostly have the same attributes in the same order: comparing with
        // the last shape needs no list and no hash.
        let shape = match self.shape_of_rows.likely(group) {
            Some(shape) if self.has_shape(shape, attributes) => shape,
            _ => {
                let columns =
                    attributes.iter().map(|a| self.column_id(&a.key, kind_of(&a.value))).collect();
                self.shape_id(columns)
            }
        };
        self.shape_of_rows.push(group, shape);
        self.count += attributes.len();
        for (column, attribute) in self.shapes[shape as usize].iter().zip(attributes) {
            self.columns[*column as usize].push(&attribute.value);
        }
    }

    /// Adds the attributes of a row of another block.
    pub(super) fn push_read(
        &mut self,
        group: u32,
        attributes: &'a Attributes,
        row: usize,
        known: &mut KnownAttributes,
    ) {
        let number = attributes.shape_of_rows[row] as usize;
        // What a shape of the other block became here is looked up once for each shape, and not for
        // each log: one of the things that make merging quicker than encoding.
        known.shapes.resize(attributes.shapes.len(), None);
        known.skeletons.resize_with(attributes.columns.len(), KnownSkeletons::default);
        let columns = &attributes.shapes[number];
        let shape = *known.shapes[number].get_or_insert_with(|| {
            let id = |column: &u32| {
                let (key, values) = &attributes.columns[*column as usize];
                self.column_id(key, values.kind())
            };
            let columns = columns.iter().map(id).collect();
            self.shape_id(columns)
        });
        self.shape_of_rows.push(group, shape);
        self.count += columns.len();
        let positions = &attributes.positions[attributes.starts[row] as usize..];
        let targets = &self.shapes[shape as usize];
        for ((target, column), position) in targets.iter().zip(columns).zip(positions) {
            let known = &mut known.skeletons[*column as usize];
            let values = &attributes.columns[*column as usize].1;
            self.columns[*target as usize].push_read(values, *position as usize, known);
        }
    }

    fn has_shape(&self, shape: u32, attributes: &[Attribute]) -> bool {
        let columns = &self.shapes[shape as usize];
        let is_of = |(column, attribute): (&u32, &Attribute)| {
            self.columns[*column as usize].is_of(attribute)
        };
        columns.len() == attributes.len() && columns.iter().zip(attributes).all(is_of)
    }

    fn shape_id(&mut self, columns: Vec<u32>) -> u32 {
        *self.shape_ids.entry(columns).or_insert_with_key(|columns| {
            self.shapes.push(columns.clone());
            self.shapes.len() as u32 - 1
        })
    }

    fn column_id(&mut self, key: &'a str, kind: u8) -> u32 {
        *self.column_ids.entry((key, kind)).or_insert_with(|| {
            self.columns.push(Column::new(key, kind));
            self.columns.len() as u32 - 1
        })
    }

    /// About how long names and values would be as text, bytes.
    pub(super) fn text_bytes(&self) -> usize {
        self.columns.iter().map(Column::text_bytes).sum()
    }

    /// Appends everything.
    pub(super) fn write(&self, out: &mut Section) -> Result<(), BlockError> {
        if self.count > VALUES_MAX {
            return Err(BlockError::TooLarge("more than 16 million attributes"));
        }
        put_varint(&mut out.symbols, self.columns.len() as u64);
        for column in &self.columns {
            put_bytes(&mut out.text, column.key.as_bytes());
            out.symbols.push(column.kind);
        }
        put_varint(&mut out.symbols, self.shapes.len() as u64);
        for shape in &self.shapes {
            put_varint(&mut out.symbols, shape.len() as u64);
            shape.iter().for_each(|column| put_varint(&mut out.symbols, (*column).into()));
        }
        self.shape_of_rows.write(out);
        self.columns.iter().try_for_each(|column| column.write(out))
    }
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
    /// Reads what [`AttributeWriter::write`] wrote.
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
        // How long each column is follows from the shapes, so that it is not written.
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

/// Looks for a phrase among the values of logs.
pub(super) struct PhraseSearch<'a> {
    attributes: &'a Attributes,
    phrase: &'a Phrase,
    /// Whether it has digits alone, as whole numbers do.
    is_number: bool,
    /// Of each column of texts, how their skeletons match.
    skeletons: Vec<Vec<PhraseMatch>>,
    scratch: Vec<u8>,
}

impl Attributes {
    /// Looks for a phrase among the values of logs.
    pub(super) fn phrase_search<'a>(&'a self, phrase: &'a Phrase) -> PhraseSearch<'a> {
        let skeletons = self.columns.iter().map(|(_, values)| match values {
            Values::String(texts) => texts.phrase_matches(phrase),
            _ => Vec::new(),
        });
        PhraseSearch {
            attributes: self,
            phrase,
            is_number: phrase.is_number(),
            skeletons: skeletons.collect(),
            scratch: Vec::new(),
        }
    }

    /// Those phrases of a set that the values of a log have; `scratch` is overwritten.
    pub(super) fn phrases(
        &self,
        row: usize,
        set: &PhraseSet,
        scratch: &mut Vec<u8>,
    ) -> Result<PhraseBits, BlockError> {
        let shape = &self.shapes[self.shape_of_rows[row] as usize];
        let positions = &self.positions[self.starts[row] as usize..];
        shape.iter().zip(positions).try_fold(0, |found, (column, position)| {
            Ok(found
                | match &self.columns[*column as usize].1 {
                    Values::String(texts) => texts.phrases(*position as usize, set, scratch)?,
                    Values::Int(_) if !set.has_number() => 0,
                    values => set.in_value(&values.get(*position as usize)?),
                })
        })
    }
}

impl PhraseSearch<'_> {
    /// How many skeletons were asked for the phrase.
    pub(super) fn skeleton_count(&self) -> usize {
        self.skeletons.iter().map(Vec::len).sum()
    }

    /// Whether a value of a log has the phrase.
    pub(super) fn has(&mut self, row: usize) -> Result<bool, BlockError> {
        let Self { attributes, phrase, is_number, skeletons, scratch } = self;
        let shape = &attributes.shapes[attributes.shape_of_rows[row] as usize];
        let positions = &attributes.positions[attributes.starts[row] as usize..];
        for (column, position) in shape.iter().zip(positions) {
            let (column, position) = (*column as usize, *position as usize);
            let has = match &attributes.columns[column].1 {
                Values::String(texts) => match skeletons[column][texts.skeleton(position)] {
                    PhraseMatch::Never => false,
                    PhraseMatch::Always => true,
                    PhraseMatch::Perhaps => texts.has_phrase(position, phrase, scratch)?,
                },
                // Most values are such, and need not be written out to see that they have no word.
                Values::Int(_) if !*is_number => false,
                values => has_phrase(&values.get(position)?, phrase),
            };
            if has {
                return Ok(true);
            }
        }
        Ok(false)
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

    const fn kind(&self) -> u8 {
        match self {
            Self::String(_) => STRING,
            Self::Json(_) => JSON,
            Self::Int(_) => INT,
            Self::Double(_) => DOUBLE,
            Self::Bool(_) => BOOL,
        }
    }

    /// The value at a position of its column.
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
