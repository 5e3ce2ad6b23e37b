//! Making a block from rows, or from rows of other blocks.

use xxhash_rust::xxh3::xxh3_64;
use zstd::bulk::Compressor;

use super::{
    BlockError, Effort, EncodedBlock, MAGIC, ROWS_MAX, Row,
    bloom::FilterWriter,
    bytes::put_varint,
    columns::{Columns, Source},
    open::Block,
    section::Section,
};

/// Levels of Zstandard for the two efforts.
// The fastest while senders wait for the commit; what it makes is merged soon anyway. A merge has
// the time for 3, Zstandard's own default.
const FRESH_LEVEL: i32 = 1;
const MERGED_LEVEL: i32 = 3;

/// Makes blocks, keeping its buffers from one to the next.
#[derive(Default)]
pub struct Encoder {
    fresh: Option<Compressor<'static>>,
    merged: Option<Compressor<'static>>,
    section: Section,
    filter: FilterWriter,
}

impl Encoder {
    /// An encoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes rows in the order given; at least one. An error leaves nothing behind.
    pub fn encode(&mut self, rows: &[Row<'_>], effort: Effort) -> Result<EncodedBlock, BlockError> {
        check_count(rows.len())?;
        self.filter.clear();
        let mut columns = Columns::for_rows(rows.len());
        for (position, row) in rows.iter().enumerate() {
            columns
                .push_row(row, &mut self.filter)
                .map_err(|detail| BlockError::Unstorable { row: position, detail })?;
        }
        self.finish(&columns, effort)
    }

    /// Encodes rows of other blocks in the order given; at least one. A place is the position of a
    /// block and a row of it. Several times faster than reading the rows and encoding them.
    pub fn merge(
        &mut self,
        blocks: &[Block<'_>],
        places: &[(u32, u32)],
    ) -> Result<EncodedBlock, BlockError> {
        check_count(places.len())?;
        self.filter.clear();
        let mut sources = blocks.iter().map(Source::of).collect::<Result<Vec<_>, _>>()?;
        let mut columns = Columns::for_rows(places.len());
        for (block, row) in places {
            let source = &mut sources[*block as usize];
            columns.push_read(source, *row as usize, &mut self.filter);
        }
        self.finish(&columns, Effort::Merged)
    }

    fn finish(
        &mut self,
        columns: &Columns<'_>,
        effort: Effort,
    ) -> Result<EncodedBlock, BlockError> {
        columns.fill_filter(&mut self.filter);
        let mut body = MAGIC.to_vec();
        // Room for the checksum, which is known only when everything after it is written.
        body.extend_from_slice(&[0; 8]);
        let summary = columns.summary();
        put_varint(&mut body, summary.rows.into());
        self.section.clear();
        // The order of the sections is the form: `Block::open` takes them off in the same.
        columns.write_keys(&mut self.section);
        self.end_section(effort, &mut body)?;
        columns.write_messages(&mut self.section)?;
        self.end_section(effort, &mut body)?;
        columns.write_details(&mut self.section, &mut self.filter);
        self.end_section(effort, &mut body)?;
        columns.write_attributes(&mut self.section)?;
        self.end_section(effort, &mut body)?;
        let start = MAGIC.len() + 8;
        let checksum = xxh3_64(&body[start..]);
        body[MAGIC.len()..start].copy_from_slice(&checksum.to_le_bytes());
        Ok(EncodedBlock { summary, word_filter: self.filter.finish(), body })
    }

    fn end_section(&mut self, effort: Effort, body: &mut Vec<u8>) -> Result<(), BlockError> {
        let (compressor, level) = match effort {
            Effort::Fresh => (&mut self.fresh, FRESH_LEVEL),
            Effort::Merged => (&mut self.merged, MERGED_LEVEL),
        };
        // Kept: a new compressor allocates and clears its tables, much work for a small section.
        let compressor = match compressor {
            Some(compressor) => compressor,
            None => compressor.insert(
                Compressor::new(level)
                    .map_err(|_| BlockError::TooLarge("no memory to compress it"))?,
            ),
        };
        self.section.write(compressor, body)?;
        self.section.clear();
        Ok(())
    }
}

fn check_count(rows: usize) -> Result<(), BlockError> {
    if (1..=ROWS_MAX).contains(&rows) {
        return Ok(());
    }
    Err(BlockError::TooLarge("a block holds 1 to 1,048,576 logs"))
}
