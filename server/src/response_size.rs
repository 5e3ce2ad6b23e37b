//! What fits one response: lists are cut, or refused, before they outgrow what clients take.

use prost::Message;

use crate::status::Refusal;

/// An answer is cut before it grows beyond this, for clients take 4 MiB by default.
pub(crate) const RESPONSE_BYTES_MAX: usize = 3 << 20;

/// The first of these that fit one answer together, at least one if there is one; and whether there
/// are more.
pub(crate) fn cut<M: Message>(items: impl Iterator<Item = M>) -> (Vec<M>, bool) {
    cut_at(RESPONSE_BYTES_MAX, 1, items)
}

/// [`cut`] at any size, and with so many items at least.
pub(crate) fn cut_at<M: Message>(
    bytes_max: usize,
    at_least: usize,
    items: impl Iterator<Item = M>,
) -> (Vec<M>, bool) {
    let mut bytes = 0;
    let mut fitting = Vec::new();
    for item in items {
        bytes += item.encoded_len();
        if bytes > bytes_max && fitting.len() >= at_least {
            return (fitting, true);
        }
        fitting.push(item);
    }
    (fitting, false)
}

/// All of these, or a refusal that asks for less: for answers that mean nothing in part.
pub(crate) fn all_if_they_fit<M: Message>(
    items: impl Iterator<Item = M>,
) -> Result<Vec<M>, Refusal> {
    match cut(items) {
        (all, false) => Ok(all),
        (_, true) => {
            let why = format!(
                "asks for an answer of over {RESPONSE_BYTES_MAX} bytes: ask for a shorter range, \
                 wider buckets or one service"
            );
            Err(Refusal::invalid("range", why))
        }
    }
}

#[cfg(test)]
mod tests {
    use logweir_proto::v1;

    use super::*;

    #[test]
    fn an_answer_is_cut_but_never_empty() {
        let entry = |bytes: usize| v1::RejectedRecord {
            message: "x".repeat(bytes),
            ..v1::RejectedRecord::default()
        };
        let kept = |bytes: &[usize]| {
            let (kept, more) = cut(bytes.iter().copied().map(entry));
            (kept.len(), more)
        };
        assert_eq!(kept(&[5 << 20]), (1, false));
        assert_eq!(kept(&[5 << 20, 1]), (1, true));
        assert_eq!(kept(&[1 << 20; 3]), (2, true));
        assert_eq!(kept(&[1_000; 5]), (5, false));
        assert_eq!(kept(&[]), (0, false));
        for (count, fits) in [(2, true), (3, false), (4, false)] {
            let answer = all_if_they_fit((0..count).map(|_| entry(1 << 20)));
            assert_eq!(answer.is_ok_and(|all| all.len() == count), fits, "{count}");
        }
    }
}
