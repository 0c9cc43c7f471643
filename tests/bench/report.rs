//! The table that is printed.

use std::fmt::Display;

/// All rows.
#[derive(Default)]
pub struct Table(Vec<[String; 4]>);

impl Table {
    /// One row; `met` says whether the budget is kept.
    pub fn row(&mut self, what: &str, budget: impl Display, measured: impl Display, met: bool) {
        let verdict = if met { "met" } else { "NOT MET" };
        eprintln!("  {what}: {measured} (budget {budget}) {verdict}");
        self.0.push([what.to_owned(), budget.to_string(), measured.to_string(), verdict.to_owned()]);
    }

    /// One row for comparison, without a budget.
    pub fn note(&mut self, what: &str, measured: impl Display) {
        eprintln!("  {what}: {measured}");
        self.0.push([what.to_owned(), "-".to_owned(), measured.to_string(), "-".to_owned()]);
    }

    /// Prints it as Markdown.
    pub fn print(&self) {
        let head = ["what", "budget", "measured", "verdict"].map(str::to_owned);
        let rows = || std::iter::once(&head).chain(&self.0);
        let width: Vec<usize> =
            (0..4).map(|column| rows().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
        for (index, row) in rows().enumerate() {
            let cells: Vec<String> =
                row.iter().zip(&width).map(|(cell, &width)| format!("{cell:width$}")).collect();
            println!("| {} |", cells.join(" | "));
            if index == 0 {
                let lines: Vec<String> = width.iter().map(|&width| "-".repeat(width)).collect();
                println!("|-{}-|", lines.join("-|-"));
            }
        }
    }
}
