//! Changes under way: they belong to the desk, not to the connection that brought them.
//!
//! Promises: a vote that was begun is counted and recorded though its voter hangs up; at a stop all
//! are waited for. Never begins one by itself.

use std::sync::Mutex;
use std::sync::PoisonError;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing::error;

/// Changes under way.
#[derive(Debug, Default)]
pub struct Carried(Mutex<JoinSet<()>>);

impl Carried {
    /// Carries the work to its end. None: it panicked, or the process is being stopped.
    pub(super) async fn through<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (tell, told) = oneshot::channel();
        {
            let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            while let Some(ended) = under_way.try_join_next() {
                if let Err(cause) = ended {
                    error!("a change at the desk ended badly: {cause}");
                }
            }
            under_way.spawn(async move {
                // Whoever asked may have hung up; the change stands all the same.
                let _nobody_waits = tell.send(work.await);
            });
        }
        told.await.ok()
    }

    /// Waits for all of them.
    pub async fn drain(&self) {
        let mut under_way = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        while under_way.join_next().await.is_some() {}
    }
}
