//! Horizontal bars with whiskers as SVG, in the colours of light and dark pages.

use std::fmt::Write;

use crate::bench::samples::Spread;

const LABEL_PX: f64 = 320.0;
const PLOT_PX: f64 = 420.0;
const ROW_PX: f64 = 26.0;
const TOP_PX: f64 = 44.0;

/// One bar.
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) value: Spread,
}

/// What bars are to be seen against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    /// Where it stands, in the bars' unit.
    pub(crate) at: f64,
    /// Decimals of the numbers beside the bars.
    pub(crate) decimals: usize,
}

/// Bars from 0, with a line at 1: what they are ratios to.
pub(crate) fn bars(title: &str, bars: &[Bar]) -> String {
    bars_to(title, bars, Line { at: 1.0, decimals: 2 })
}

/// Bars from 0, with a line.
pub(crate) fn bars_to(title: &str, bars: &[Bar], line: Line) -> String {
    let most = bars.iter().map(|bar| bar.value.high).fold(line.at, f64::max) * 1.05;
    let x = |value: f64| LABEL_PX + value / most * PLOT_PX;
    let height = TOP_PX + ROW_PX * bars.len() as f64 + 12.0;
    let width = LABEL_PX + PLOT_PX + 80.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <style>text{{fill:#333}}.bar{{fill:#4c8eda}}.line{{stroke:#888}}@media(prefers-color-scheme:dark){{text{{fill:#ddd}}}}</style>\n\
         <text x=\"8\" y=\"22\" font-size=\"15\">{}</text>\n",
        escape(title)
    );
    for (row, bar) in bars.iter().enumerate() {
        let y = TOP_PX + ROW_PX * row as f64;
        let (low, high, middle) = (x(bar.value.low), x(bar.value.high), y + 8.0);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <rect class=\"bar\" x=\"{LABEL_PX}\" y=\"{y}\" width=\"{:.1}\" height=\"16\"/>\
             <line class=\"line\" x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{middle}\" y2=\"{middle}\" stroke-width=\"2\"/>\
             <text x=\"{:.1}\" y=\"{}\">{:.*}</text>",
            LABEL_PX - 8.0,
            y + 13.0,
            escape(&bar.label),
            x(bar.value.median) - LABEL_PX,
            high + 8.0,
            y + 13.0,
            line.decimals,
            bar.value.median
        );
    }
    let one = x(line.at);
    let _ = writeln!(
        svg,
        "<line class=\"line\" x1=\"{one:.1}\" x2=\"{one:.1}\" y1=\"{}\" y2=\"{}\" stroke-dasharray=\"4 3\"/>\n</svg>",
        TOP_PX - 6.0,
        height - 8.0
    );
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_is_drawn_and_text_is_escaped() {
        let value = Spread { median: 0.5, low: 0.4, high: 0.6 };
        let bar = |label: &str| Bar { label: label.into(), value };
        let svg = bars("a < b", &[bar("one"), bar("two & three")]);
        assert_eq!(svg.matches("<rect").count(), 2);
        assert!(svg.contains("a &lt; b") && svg.contains("two &amp; three") && svg.ends_with("</svg>\n"));
    }
}
