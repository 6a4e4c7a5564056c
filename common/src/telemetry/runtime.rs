//! How many tasks a process's runtimes keep: what leaks when connections or streams are not let go.
//!
//! Read from the runtimes when somebody asks for the metrics; nothing is counted meanwhile.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Registry,
};
use tokio::runtime::Handle;

/// The name of the runtime that does what is not a worker's: discovery, probes, metrics.
const CONTROL: &str = "control";

/// The runtimes of a gateway or node.
#[derive(Debug)]
struct Runtimes(Vec<(String, Handle)>);

/// Makes the number of tasks on the current runtime and on the workers' visible.
///
/// # Panics
/// Outside a tokio runtime.
pub fn register_runtimes(registry: &mut Registry, workers: &[Handle]) {
    let control = (CONTROL.to_owned(), Handle::current());
    let workers = workers.iter().enumerate();
    let workers = workers.map(|(index, handle)| (format!("worker-{index}"), handle.clone()));
    registry.register_collector(Box::new(Runtimes([control].into_iter().chain(workers).collect())));
}

impl Collector for Runtimes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Tasks that have not ended, by runtime";
        let mut family =
            encoder.encode_descriptor("ringway_runtime_tasks", help, None, MetricType::Gauge)?;
        for (name, handle) in &self.0 {
            let tasks = ConstGauge::new(handle.metrics().num_alive_tasks() as i64);
            tasks.encode(family.encode_family(&[("runtime", name.as_str())])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{sync::oneshot, task::yield_now, time::timeout};

    use crate::{telemetry::Metrics, worker::Workers};

    use super::*;

    #[tokio::test]
    async fn a_task_is_counted_on_its_runtime_until_it_ends() {
        let workers = Workers::start("cell", 1).unwrap();
        let mut metrics = Metrics::new();
        register_runtimes(metrics.registry(), workers.handles());
        let (end, ended) = oneshot::channel::<()>();
        let task = workers.handles()[0].spawn(ended);
        let with = |tasks| format!("ringway_runtime_tasks{{runtime=\"worker-0\"}} {tasks}\n");
        let text = metrics.encode().unwrap();
        assert!(text.contains(&with(1)) && text.contains("runtime=\"control\""), "{text}");
        end.send(()).unwrap();
        task.await.unwrap().unwrap();
        // Whoever waits for a task may hear of its end before its runtime has put it away.
        let gone = async {
            while !metrics.encode().unwrap().contains(&with(0)) {
                yield_now().await
            }
        };
        timeout(Duration::from_secs(20), gone).await.expect("it is not counted any more");
        workers.stop().await;
    }
}
