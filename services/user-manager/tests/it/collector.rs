//! Stands in for data-collector: remembers who was deleted, and fails when it is told to.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use proto::v1::{
    DeleteInterestsResponse, UserRequest,
    data_collector_service_server::{DataCollectorService, DataCollectorServiceServer},
};
use runtime::{ServiceRuntime, clock::Clock, listen::Listen, trace::RequestContext};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// A call that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub email: String,
    pub user_id: Option<String>,
    pub context: RequestContext,
}

/// How a call goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is refused.
    Refused(tonic::Code),
    /// It is answered without success.
    WithoutSuccess,
    /// It is not answered.
    Silent,
}

#[derive(Clone, Default)]
struct Record {
    calls: Arc<Mutex<Vec<Call>>>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
}

pub struct Collector {
    pub addr: SocketAddr,
    record: Record,
    runtime: ServiceRuntime,
}

impl Collector {
    pub async fn start() -> Self {
        Self::on(Listen::on_loopback().expect("a port")).await
    }

    /// At an address that was told to others before.
    pub async fn at(addr: SocketAddr) -> Self {
        Self::on(Listen::At(addr)).await
    }

    async fn on(listen: Listen) -> Self {
        let runtime = ServiceRuntime::new("data-collector", CancellationToken::new(), Clock::system());
        let record = Record::default();
        let service = DataCollectorServiceServer::new(record.clone());
        let served = grpc_edge::serve(&runtime, listen, service).await.expect("served");
        served.set_serving().await;
        Self { addr: served.addr, record, runtime }
    }

    /// The next calls go wrong like this.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.record.faults.lock().expect("a lock").extend(faults);
    }

    pub fn calls(&self) -> Vec<Call> {
        self.record.calls.lock().expect("a lock").clone()
    }

    pub async fn stop(self) {
        self.runtime.tasks.stopping().cancel();
        self.runtime.tasks.join().await.expect("a clean stop");
    }
}

#[tonic::async_trait]
impl DataCollectorService for Record {
    async fn delete_user_interests(
        &self,
        request: Request<UserRequest>,
    ) -> Result<Response<DeleteInterestsResponse>, Status> {
        let context = grpc_edge::request_context(request.metadata());
        let UserRequest { email, user_id } = request.into_inner();
        self.calls.lock().expect("a lock").push(Call { email, user_id, context });
        let fault = self.faults.lock().expect("a lock").pop_front();
        match fault {
            None => Ok(Response::new(DeleteInterestsResponse { success: true, deleted_count: 2 })),
            Some(Fault::WithoutSuccess) => Ok(Response::new(DeleteInterestsResponse::default())),
            Some(Fault::Refused(code)) => Err(Status::new(code, "as the test wishes")),
            Some(Fault::Silent) => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                Err(Status::cancelled("nobody waits any more"))
            }
        }
    }
}
