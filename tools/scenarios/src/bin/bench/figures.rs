//! What was measured, and what is made of it.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::variants::Variant;

/// A kind of figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// Microseconds of the worker threads' CPU time for a request on a keep-alive connection, with so
    /// many workers.
    Request { workers: u32 },
    /// The same for a new connection (full handshake) with one request, by how many different client
    /// certificates there are.
    Connection { certificates: usize },
    /// Microseconds until the response is there, at a fixed rate: the median of a round.
    LatencyMedian,
    /// The same, the 99th percentile of a round.
    Latency99,
    /// Milliseconds of CPU time of the whole process until it is ready, with one worker.
    Start,
    /// Milliseconds until it is ready.
    StartElapsed,
    /// Resident megabytes with one worker, after some requests.
    Memory,
    /// Resident megabytes that a second worker adds.
    MemoryPerWorker,
    /// Resident megabytes after all certificates have been seen.
    MemoryAtEnd,
    /// Series of the module in a scrape, before the first connection.
    SeriesAtRest,
    /// Bytes of a scrape that are the module's, before the first connection.
    ScrapeAtRest,
    /// Series after all certificates have been seen.
    SeriesAtEnd,
    /// Bytes of a scrape after all certificates have been seen.
    ScrapeAtEnd,
}

impl Figure {
    /// The key in the JSON output.
    fn key(self) -> String {
        match self {
            Self::Request { workers } => format!("request_cpu_us_{workers}_workers"),
            Self::Connection { certificates } => {
                format!("connection_cpu_us_{certificates}_certificates")
            }
            Self::LatencyMedian => "latency_p50_us".to_owned(),
            Self::Latency99 => "latency_p99_us".to_owned(),
            Self::Start => "start_cpu_ms".to_owned(),
            Self::StartElapsed => "start_elapsed_ms".to_owned(),
            Self::Memory => "memory_mb".to_owned(),
            Self::MemoryPerWorker => "memory_per_worker_mb".to_owned(),
            Self::MemoryAtEnd => "memory_at_end_mb".to_owned(),
            Self::SeriesAtRest => "series_at_rest".to_owned(),
            Self::ScrapeAtRest => "scrape_bytes_at_rest".to_owned(),
            Self::SeriesAtEnd => "series_at_end".to_owned(),
            Self::ScrapeAtEnd => "scrape_bytes_at_end".to_owned(),
        }
    }
}

/// The middle of some samples, and between what half of them lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub median: f64,
    pub lower_quartile: f64,
    pub upper_quartile: f64,
}

impl Summary {
    /// `None` without samples.
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut samples: Vec<f64> = samples.into_iter().collect();
        samples.sort_by(f64::total_cmp);
        Some(Self {
            median: quantile(&samples, 0.5)?,
            lower_quartile: quantile(&samples, 0.25)?,
            upper_quartile: quantile(&samples, 0.75)?,
        })
    }
}

/// The value that this share of the sorted samples is below, interpolated between neighbours.
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * (sorted.len().checked_sub(1)?) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    let (below, above) = (sorted.get(below)?, sorted.get(above)?);
    Some(below + (above - below) * place.fract())
}

/// All samples, one of each figure and variant in a round.
#[derive(Debug, Default)]
pub struct Figures(BTreeMap<Figure, Vec<(Variant, Vec<f64>)>>);

impl Figures {
    pub fn add(&mut self, figure: Figure, variant: Variant, sample: f64) {
        let variants = self.0.entry(figure).or_default();
        match variants.iter_mut().find(|(known, _)| *known == variant) {
            Some((_, samples)) => samples.push(sample),
            None => variants.push((variant, vec![sample])),
        }
    }

    pub fn samples(&self, figure: Figure, variant: Variant) -> &[f64] {
        let variants = self.0.get(&figure).map_or(&[][..], Vec::as_slice);
        let found = variants.iter().find(|(known, _)| *known == variant);
        found.map_or(&[], |(_, samples)| samples)
    }

    pub fn summary(&self, figure: Figure, variant: Variant) -> Option<Summary> {
        Summary::of(self.samples(figure, variant).iter().copied())
    }

    /// What the variant costs more than its base, round by round: what disturbs a round disturbs
    /// both.
    pub fn added(&self, figure: Figure, variant: Variant) -> Option<Summary> {
        let (own, base) = (
            self.samples(figure, variant),
            self.samples(figure, variant.base()),
        );
        Summary::of(own.iter().zip(base).map(|(own, base)| own - base))
    }

    /// The mean of the lowest third of the rounds. What else the machine does only ever adds to a round, and a small
    /// difference of two medians drowns in it.
    pub fn undisturbed(&self, figure: Figure, variant: Variant) -> Option<f64> {
        let mut samples = self.samples(figure, variant).to_vec();
        samples.sort_by(f64::total_cmp);
        samples.truncate(samples.len().div_ceil(3));
        let sum: f64 = samples.iter().sum();
        (!samples.is_empty()).then(|| sum / samples.len() as f64)
    }

    /// Everything, with every sample.
    pub fn json(&self) -> Json {
        let figure = |(figure, variants): (&Figure, &Vec<(Variant, Vec<f64>)>)| {
            let variants = variants.iter().map(|(variant, samples)| {
                let summary = self.summary(*figure, *variant);
                let added = self.added(*figure, *variant);
                let value = json!({
                    "median": summary.map(|summary| summary.median),
                    "lower_quartile": summary.map(|summary| summary.lower_quartile),
                    "upper_quartile": summary.map(|summary| summary.upper_quartile),
                    "added_median": added.map(|added| added.median),
                    "samples": samples,
                });
                (variant.key().to_owned(), value)
            });
            (figure.key(), Json::Object(variants.collect()))
        };
        Json::Object(self.0.iter().map(figure).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        let summary = Summary::of([4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!(summary.median, 2.5);
        assert_eq!(summary.lower_quartile, 1.75);
        assert_eq!(summary.upper_quartile, 3.25);
        assert_eq!(Summary::of([]), None);
    }

    #[test]
    fn the_lowest_third_is_undisturbed() {
        let (figure, mut figures) = (Figure::Start, Figures::default());
        assert_eq!(figures.undisturbed(figure, Variant::Http), None);
        for sample in [90.0, 12.0, 30.0, 10.0] {
            figures.add(figure, Variant::Http, sample);
        }
        assert_eq!(figures.undisturbed(figure, Variant::Http), Some(11.0));
    }

    #[test]
    fn added_cost_is_taken_round_by_round() {
        let figure = Figure::Request { workers: 1 };
        let mut figures = Figures::default();
        for (none, http) in [(10.0, 12.0), (100.0, 103.0), (20.0, 24.0)] {
            figures.add(figure, Variant::None, none);
            figures.add(figure, Variant::Http, http);
        }
        assert_eq!(figures.added(figure, Variant::Http).unwrap().median, 3.0);
    }
}
