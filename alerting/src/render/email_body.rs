//! A notification as a mail's text and as its page.

use logweir_incident::render::{
    template::{Markup, TemplateError, fill},
    view::View,
};
use serde::Serialize;

const TEXT: &str = include_str!("email.txt");
const PAGE: &str = include_str!("email.html");

#[derive(Serialize)]
struct Page<'a> {
    #[serde(flatten)]
    view: &'a View,
    /// The incident's colour.
    color: &'static str,
    runbook_link: String,
    own: &'a str,
    note: &'a str,
}

/// The text.
pub(crate) fn plain(view: &View, own: Option<&str>, note: Option<&str>) -> String {
    let filled = fill(TEXT, Markup::Text, Page::new(view, own, note));
    // The built-in text is tested; were it to fail all the same, the line that matters is sent.
    let text = filled.unwrap_or_else(|_| format!("{}\n{}\n", view.headline(), view.link));
    // SMTP ends lines with CR and LF, and spaces at their ends would be encoded.
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\r\n") + "\r\n"
}

/// The page.
pub(crate) fn html(
    view: &View,
    own: Option<&str>,
    note: Option<&str>,
) -> Result<String, TemplateError> {
    fill(PAGE, Markup::Html, Page::new(view, own, note))
}

impl<'a> Page<'a> {
    fn new(view: &'a View, own: Option<&'a str>, note: Option<&'a str>) -> Self {
        let color = match (view.is_resolved, view.severity.as_str()) {
            (true, _) => "#1a7f4b",
            (_, "critical") => "#c4321f",
            (_, "warning") => "#b45f06",
            _ => "#2563a8",
        };
        let runbook_link = view.runbook_link();
        Self { view, color, runbook_link, own: own.unwrap_or(""), note: note.unwrap_or("") }
    }
}

#[cfg(test)]
mod tests {
    use logweir_incident::{example, notification::NotificationKind};

    use super::*;

    fn view() -> View {
        let notification = example::notification(NotificationKind::Opened);
        View::new(&notification, &notification.key, false)
    }

    #[test]
    fn a_mail_tells_first_what_is_needed_first() {
        let text = plain(&view(), None, None);
        let order = [
            "checkout: errors/min 80",
            "Since",
            "errors/min: 80 now, normal 2 (40×)",
            "Probable cause",
            "timed out after",
            "Deployed: checkout 1.4.2",
            "Logs",
            "Open the incident: https://logs.example.com/",
        ];
        let found: Vec<_> =
            order.iter().map(|part| text.find(part).unwrap_or(usize::MAX)).collect();
        assert!(found.is_sorted() && found.last() < Some(&usize::MAX), "{found:?}\n{text}");
        assert!(text.lines().all(|line| line.chars().count() < 320));
    }

    #[test]
    fn logs_are_no_markup_in_a_page() {
        let mut view = view();
        view.title = "<script>alert(1)</script>".into();
        view.samples[0].message = "<img src=x onerror='x'>".into();
        view.causes[0].pattern = "\"><b>".into();
        let page = html(&view, Some("<i>own</i>"), Some("<u>note</u>")).unwrap();
        for markup in ["<script", "<img", "\"><b>", "<i>", "<u>"] {
            assert!(!page.contains(markup), "{markup}");
        }
        assert!(page.contains("&lt;script&gt;"));
        assert!(html(&view, None, None).unwrap().contains("&lt;img src=x"));
    }
}
