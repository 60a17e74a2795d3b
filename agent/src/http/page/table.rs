//! Tables. A wide screen shows rows, a narrow one a card for each row: the style sheet turns the one into the other, and the roles say
//! that it is a table still.

use super::html::Html;

/// A column.
pub(super) struct Column {
    pub(super) name: &'static str,
    /// Numbers are flush right.
    pub(super) number: bool,
}

/// A column of words.
pub(super) const fn words(name: &'static str) -> Column {
    Column { name, number: false }
}

/// A column of numbers.
pub(super) const fn number(name: &'static str) -> Column {
    Column { name, number: true }
}

/// A row.
pub(super) struct Row {
    /// What tells it from others, so that it stays itself when the order changes.
    pub(super) key: String,
    /// The first one is the row's name.
    pub(super) cells: Vec<Html>,
}

/// A part of a page, under a heading.
pub(super) struct Section {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// What the numbers are.
    pub(super) note: Html,
    pub(super) columns: &'static [Column],
    pub(super) rows: Vec<Row>,
    /// What is said without any row.
    pub(super) empty: Html,
}

impl Section {
    pub(super) fn html(&self) -> Html {
        let body = if self.rows.is_empty() {
            html!("<p class=\"empty\">" (self.empty) "</p>\n")
        } else {
            self.table()
        };
        html!("<section aria-labelledby=\"" (self.id) "\">\n<h2 id=\"" (self.id) "\">" (self.title) "</h2>\n" (body) "</section>\n")
    }

    /// Without its heading.
    pub(super) fn table(&self) -> Html {
        let heads: Html = self.columns.iter().map(head).collect();
        let rows: Html = self.rows.iter().map(|row| self.row(row)).collect();
        html!(
            "<p class=\"note\" id=\"" (self.id) "-note\">" (self.note) "</p>\n"
            "<div class=\"scroll\" role=\"group\" tabindex=\"0\" aria-labelledby=\"" (self.id) "\">\n"
            "<table role=\"table\" id=\"" (self.id) "-table\" aria-labelledby=\"" (self.id) "\" aria-describedby=\"" (self.id) "-note\">\n"
            "<thead role=\"rowgroup\"><tr role=\"row\">" (heads) "</tr></thead>\n<tbody role=\"rowgroup\">\n" (rows)
            "</tbody>\n</table>\n</div>\n"
        )
    }

    fn row(&self, row: &Row) -> Html {
        let mut html = html!("<tr role=\"row\" data-key=\"" (row.key) "\">");
        for (index, (cell, column)) in row.cells.iter().zip(self.columns).enumerate() {
            if index == 0 {
                html.add(html!("<th role=\"rowheader\" scope=\"row\">" (cell) "</th>"));
                continue;
            }
            let class = column.number.then(|| html!(" class=\"n\""));
            html.add(html!("<td role=\"cell\"" (class) " data-label=\"" (column.name) "\">" (cell) "</td>"));
        }
        html.raw("</tr>\n");
        html
    }
}

fn head(column: &Column) -> Html {
    let class = column.number.then(|| html!(" class=\"n\""));
    html!("<th role=\"columnheader\" scope=\"col\"" (class) ">" (column.name) "</th>")
}

/// A cell of plain text.
pub(super) fn cell(text: impl std::fmt::Display) -> Html {
    let mut html = Html::default();
    html.text(text);
    html
}

/// The same of what may be unknown.
pub(super) fn maybe(text: Option<impl std::fmt::Display>) -> Html {
    text.map_or_else(|| html!("<span class=\"none\">–</span>"), cell)
}
