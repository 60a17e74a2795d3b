//! One column of the picture: an axis, and in each row a mark with whiskers.

use anyhow::Result;
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{Cartesian2d, Circle, IntoLogRange as _, PathElement, Ranged, Rectangle, SVGBackend};
use plotters::style::text_anchor::HPos;
use plotters::style::{Color as _, RGBColor};

use super::super::super::statistics::Spread;
use super::{AXIS, Area, GREY, RED, ROW, TEXT_IN_ROW, failed, text};

/// Room to the right of the axis, for the medians in figures.
const FIGURES: u32 = 66;

/// Half the height of a whisker's end, of a row.
const WHISKER: f64 = 0.16;

/// Room around the outermost values, as a share of their distance.
const ROOM: f64 = 0.08;

/// How far apart the ends of a logarithmic axis are at least.
const DECADE: f64 = 12.0;

const STRIPE: RGBColor = RGBColor(244, 246, 248);
const MESH: RGBColor = RGBColor(222, 226, 230);

/// A line of the picture.
pub(super) struct Row {
    pub(super) label: String,
    pub(super) colour: RGBColor,
}

/// How values become places.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Scale {
    /// Linear, 1 always in sight and marked.
    Ratio,
    /// Logarithmic, or from 0 where the values are of one magnitude: a logarithmic axis would have no figure.
    Nanoseconds,
}

/// A column.
pub(super) struct Panel {
    pub(super) title: &'static str,
    pub(super) axis: &'static str,
    pub(super) scale: Scale,
    /// One for each row.
    pub(super) values: Vec<Spread>,
    /// One for each row.
    pub(super) targets: Vec<Option<f64>>,
}

type Chart<'a, 'b, X> = ChartContext<'b, SVGBackend<'a>, Cartesian2d<X, RangedCoordf64>>;

impl Panel {
    /// Fills `area`, whose rows begin at its upper edge.
    pub(super) fn draw(&self, area: &Area<'_>, rows: &[Row]) -> Result<()> {
        let (low, high) = self.limits();
        match self.scale {
            Scale::Ratio => self.draw_on(area, rows, low..high, low, high),
            Scale::Nanoseconds if high < low * DECADE => self.draw_on(area, rows, 0.0..high, 0.0, high),
            Scale::Nanoseconds => self.draw_on(area, rows, (low..high).log_scale(), low, high),
        }
    }

    fn draw_on<X>(&self, area: &Area<'_>, rows: &[Row], range: X, low: f64, high: f64) -> Result<()>
    where
        X: AsRangedCoord<Value = f64>,
        X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let mut chart = ChartBuilder::on(area)
            .x_label_area_size(AXIS - 4)
            .margin_right(FIGURES)
            .margin_bottom(4)
            .build_cartesian_2d(range, 0.0..rows.len() as f64)
            .map_err(failed)?;
        stripes(&mut chart, rows.len(), low, high)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .x_labels(self.scale.ticks())
            .x_desc(self.axis)
            .x_label_formatter(&|value| self.scale.tick(*value))
            .x_label_style(("sans-serif", 12, &GREY))
            .axis_desc_style(("sans-serif", 12, &GREY))
            .axis_style(MESH)
            .bold_line_style(MESH)
            .light_line_style(MESH.mix(0.0))
            .draw()
            .map_err(failed)?;
        if self.scale == Scale::Ratio {
            line(&mut chart, &[(1.0, 0.0), (1.0, rows.len() as f64)], GREY, 1)?;
        }
        self.marks(&mut chart, rows)?;
        self.figures(area, rows)
    }

    fn marks<X: Ranged<ValueType = f64>>(&self, chart: &mut Chart<'_, '_, X>, rows: &[Row]) -> Result<()> {
        for (index, ((row, spread), target)) in rows.iter().zip(&self.values).zip(&self.targets).enumerate() {
            let bottom = (rows.len() - index - 1) as f64;
            if let Some(target) = *target {
                line(chart, &[(target, bottom + 0.04), (target, bottom + 0.96)], RED, 2)?;
            }
            let middle = bottom + 0.5;
            let ends = [spread.first_quartile, spread.third_quartile];
            line(chart, &ends.map(|end| (end, middle)), row.colour, 2)?;
            for end in ends {
                line(
                    chart,
                    &[(end, middle - WHISKER), (end, middle + WHISKER)],
                    row.colour,
                    2,
                )?;
            }
            let mark = Circle::new((spread.median, middle), 4, row.colour.filled());
            chart.draw_series([mark]).map_err(failed)?;
        }
        Ok(())
    }

    /// The medians in figures, at the right edge.
    fn figures(&self, area: &Area<'_>, rows: &[Row]) -> Result<()> {
        let x = area.dim_in_pixel().0 - FIGURES + 8;
        for (index, (row, spread)) in rows.iter().zip(&self.values).enumerate() {
            let y = ROW * index as u32 + TEXT_IN_ROW;
            text(
                area,
                &self.scale.figure(spread.median),
                (x, y),
                12,
                row.colour,
                HPos::Left,
            )?;
        }
        Ok(())
    }

    /// The axis: from the lowest to the highest of values and targets, and some room.
    fn limits(&self) -> (f64, f64) {
        let ends = self
            .values
            .iter()
            .flat_map(|spread| [spread.first_quartile, spread.third_quartile]);
        let values = ends.chain(self.targets.iter().copied().flatten());
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        match self.scale {
            Scale::Ratio => {
                let (low, high) = (low.min(0.98), high.max(1.02));
                let room = (high - low) * ROOM;
                (low - room, high + room)
            }
            Scale::Nanoseconds => (low.max(1.0) / 1.3, high.max(10.0) * 1.3),
        }
    }
}

impl Scale {
    /// Roughly how many.
    fn ticks(self) -> usize {
        match self {
            Self::Ratio => 5,
            Self::Nanoseconds => 6,
        }
    }

    fn tick(self, value: f64) -> String {
        match self {
            Self::Ratio => format!("{value:.2}"),
            Self::Nanoseconds => format!("{value:.0}"),
        }
    }

    fn figure(self, value: f64) -> String {
        match self {
            Self::Ratio => format!("{value:.3}"),
            Self::Nanoseconds => format!("{value:.0}"),
        }
    }
}

/// Every other row is shaded.
fn stripes<X: Ranged<ValueType = f64>>(
    chart: &mut Chart<'_, '_, X>,
    rows: usize,
    low: f64,
    high: f64,
) -> Result<()> {
    let shaded = (0..rows).rev().step_by(2).map(|row| {
        let bottom = row as f64;
        Rectangle::new([(low, bottom), (high, bottom + 1.0)], STRIPE.filled())
    });
    chart.draw_series(shaded).map_err(failed).map(|_| ())
}

fn line<X: Ranged<ValueType = f64>>(
    chart: &mut Chart<'_, '_, X>,
    points: &[(f64, f64)],
    colour: RGBColor,
    width: u32,
) -> Result<()> {
    let path = PathElement::new(points.to_vec(), colour.stroke_width(width));
    chart.draw_series([path]).map_err(failed).map(|_| ())
}
