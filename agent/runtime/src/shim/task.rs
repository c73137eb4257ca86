//! The task service of a shim: one client per Pod. The name of the service stands here and nowhere else.

use std::time::Duration;

use containerd_shim_protos::api::{
    CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse, DeleteRequest,
    DeleteResponse, ExecProcessRequest, KillRequest, ResizePtyRequest, ShutdownRequest, StartRequest,
    StartResponse, StateRequest, StateResponse, WaitRequest, WaitResponse,
};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim_async::Client;
use containerd_shim_protos::ttrpc;

/// Task service of shims up to containerd 1.7; the messages of version 3 are the same on the wire.
const SERVICE: &str = "containerd.task.v2.Task";
/// Task service of shims since containerd 2.
const SERVICE_V3: &str = "containerd.task.v3.Task";
/// Type of the `spec` in an exec.
const PROCESS_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";
/// How long calls may take that only look or signal.
const SHORT: Duration = Duration::from_secs(10);
/// How long calls may take that run the OCI runtime.
const LONG: Duration = Duration::from_secs(60);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TaskError {
    #[error("the shim is gone: {0}")]
    Gone(String),
    #[error("the shim did not answer {method} in {seconds} s")]
    Late { method: &'static str, seconds: u64 },
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Refused(String),
}

/// The status of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskStatus {
    Created,
    Running,
    Stopped,
}

/// A process as the shim sees it.
#[derive(Clone, Debug)]
pub(crate) struct TaskState {
    pub(crate) status: TaskStatus,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    /// Exit code; 128 + N for signal N.
    pub(crate) code: i32,
    /// Seconds since 1970-01-01 UTC; 0 if the shim does not know.
    pub(crate) at_unix_seconds: i64,
}

/// Where a process's streams go. stdout and stderr are both set or neither.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams {
    pub(crate) terminal: bool,
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The OCI runtime behind the shim.
#[derive(Clone, Debug)]
pub(crate) struct OciRuntime {
    /// Its program.
    pub(crate) binary: String,
    /// Where it keeps its state.
    pub(crate) root: String,
}

/// A connection to one shim.
#[derive(Clone)]
pub(crate) struct Task {
    client: Client,
    service: &'static str,
}

impl Task {
    /// Connects to a shim's socket and asks which process it is.
    pub(crate) async fn connect(address: &str) -> Result<Self, TaskError> {
        let connected = tokio::time::timeout(SHORT, Client::connect(address)).await;
        let client = connected
            .map_err(|_| TaskError::Gone("its socket does not answer".to_owned()))?
            .map_err(|e| TaskError::Gone(e.to_string()))?;
        let mut task = Self { client, service: SERVICE };
        if let Err(TaskError::Refused(_)) = task.pid("").await {
            let newer = Self { client: task.client.clone(), service: SERVICE_V3 };
            if newer.pid("").await.is_ok() {
                task = newer;
            }
        }
        Ok(task)
    }

    /// The shim's process id.
    pub(crate) async fn pid(&self, id: &str) -> Result<u32, TaskError> {
        let request = ConnectRequest { id: id.to_owned(), ..Default::default() };
        let answer: ConnectResponse = self.call("Connect", &request, Some(SHORT)).await?;
        Ok(answer.shim_pid)
    }

    /// Creates a container from the bundle (`config.json`, `rootfs`). Its process waits for [`Self::start`].
    pub(crate) async fn create(
        &self,
        id: &str,
        bundle: &str,
        streams: &Streams,
        runtime: &OciRuntime,
    ) -> Result<u32, TaskError> {
        let request = CreateTaskRequest {
            id: id.to_owned(),
            bundle: bundle.to_owned(),
            terminal: streams.terminal,
            stdin: streams.stdin.clone(),
            stdout: streams.stdout.clone(),
            stderr: streams.stderr.clone(),
            options: MessageField::some(runtime_options(&runtime.binary, &runtime.root)),
            ..Default::default()
        };
        let answer: CreateTaskResponse = self.call("Create", &request, Some(LONG)).await?;
        Ok(answer.pid)
    }

    /// Starts a container (`exec` empty) or an exec's process.
    pub(crate) async fn start(&self, id: &str, exec: &str) -> Result<u32, TaskError> {
        let request = StartRequest { id: id.to_owned(), exec_id: exec.to_owned(), ..Default::default() };
        let answer: StartResponse = self.call("Start", &request, Some(LONG)).await?;
        Ok(answer.pid)
    }

    /// Waits for the end, without a time limit.
    pub(crate) async fn wait(&self, id: &str, exec: &str) -> Result<Exit, TaskError> {
        let request = WaitRequest { id: id.to_owned(), exec_id: exec.to_owned(), ..Default::default() };
        let answer: WaitResponse = self.call("Wait", &request, None).await?;
        let at = answer.exited_at.as_ref().map_or(0, |t| t.seconds);
        Ok(Exit { code: answer.exit_status.cast_signed(), at_unix_seconds: at.max(0) })
    }

    /// Asks how a container is.
    pub(crate) async fn state(&self, id: &str) -> Result<TaskState, TaskError> {
        let request = StateRequest { id: id.to_owned(), ..Default::default() };
        let answer: StateResponse = self.call("State", &request, Some(SHORT)).await?;
        let status = match answer.status.value() {
            1 => TaskStatus::Created,
            3 => TaskStatus::Stopped,
            _ => TaskStatus::Running,
        };
        Ok(TaskState { status })
    }

    /// Sends a signal; `all` to every process of the container.
    pub(crate) async fn kill(&self, id: &str, exec: &str, signal: i32, all: bool) -> Result<(), TaskError> {
        let request = KillRequest {
            id: id.to_owned(),
            exec_id: exec.to_owned(),
            signal: signal.cast_unsigned(),
            all,
            ..Default::default()
        };
        self.call_empty("Kill", &request, SHORT).await
    }

    /// Removes what has ended, and answers how it did.
    pub(crate) async fn delete(&self, id: &str, exec: &str) -> Result<Exit, TaskError> {
        let request = DeleteRequest { id: id.to_owned(), exec_id: exec.to_owned(), ..Default::default() };
        let answer: DeleteResponse = self.call("Delete", &request, Some(LONG)).await?;
        let at = answer.exited_at.as_ref().map_or(0, |t| t.seconds);
        Ok(Exit { code: answer.exit_status.cast_signed(), at_unix_seconds: at.max(0) })
    }

    /// Kills and removes a container, in whatever state it is; answers whether it was there and is gone.
    pub(crate) async fn destroy(&self, id: &str) -> bool {
        // One that has ended, or never began, cannot be killed and need not be. It is removed only once it is dead.
        let _ = self.kill(id, "", libc::SIGKILL, true).await;
        let _ = tokio::time::timeout(SHORT, self.wait(id, "")).await;
        self.delete(id, "").await.is_ok()
    }

    /// Adds a process to a container; `process` is the OCI process, JSON.
    pub(crate) async fn exec(
        &self,
        id: &str,
        exec: &str,
        streams: &Streams,
        process: Vec<u8>,
    ) -> Result<(), TaskError> {
        let spec = Any { type_url: PROCESS_TYPE.to_owned(), value: process, ..Default::default() };
        let request = ExecProcessRequest {
            id: id.to_owned(),
            exec_id: exec.to_owned(),
            terminal: streams.terminal,
            stdin: streams.stdin.clone(),
            stdout: streams.stdout.clone(),
            stderr: streams.stderr.clone(),
            spec: MessageField::some(spec),
            ..Default::default()
        };
        self.call_empty("Exec", &request, LONG).await
    }

    /// Sets the size of a terminal, in characters.
    pub(crate) async fn resize(
        &self,
        id: &str,
        exec: &str,
        width: u16,
        height: u16,
    ) -> Result<(), TaskError> {
        let request = ResizePtyRequest {
            id: id.to_owned(),
            exec_id: exec.to_owned(),
            width: width.into(),
            height: height.into(),
            ..Default::default()
        };
        self.call_empty("ResizePty", &request, SHORT).await
    }

    /// Ends a process's input.
    pub(crate) async fn close_stdin(&self, id: &str, exec: &str) -> Result<(), TaskError> {
        let request =
            CloseIORequest { id: id.to_owned(), exec_id: exec.to_owned(), stdin: true, ..Default::default() };
        self.call_empty("CloseIO", &request, SHORT).await
    }

    /// Asks the shim to end; it does so only when it has no container left.
    pub(crate) async fn shutdown(&self, id: &str) -> Result<(), TaskError> {
        let request = ShutdownRequest { id: id.to_owned(), now: true, ..Default::default() };
        match self.call_empty("Shutdown", &request, SHORT).await {
            Err(TaskError::Gone(_)) => Ok(()),
            other => other,
        }
    }

    async fn call_empty(
        &self,
        method: &'static str,
        request: &impl Message,
        limit: Duration,
    ) -> Result<(), TaskError> {
        let _: containerd_shim_protos::protobuf::well_known_types::empty::Empty =
            self.call(method, request, Some(limit)).await?;
        Ok(())
    }

    async fn call<A: Message>(
        &self,
        method: &'static str,
        request: &impl Message,
        limit: Option<Duration>,
    ) -> Result<A, TaskError> {
        let payload = request.write_to_bytes().map_err(|e| TaskError::Refused(e.to_string()))?;
        let wire = ttrpc::Request {
            service: self.service.to_owned(),
            method: method.to_owned(),
            timeout_nano: limit.map_or(0, |l| i64::try_from(l.as_nanos()).unwrap_or(i64::MAX)),
            payload,
            ..Default::default()
        };
        let answered = match limit {
            Some(limit) => tokio::time::timeout(limit, self.client.request(wire))
                .await
                .map_err(|_| TaskError::Late { method, seconds: limit.as_secs() })?,
            None => self.client.request(wire).await,
        };
        let answer = answered.map_err(|e| fault(method, e))?;
        A::parse_from_bytes(&answer.payload).map_err(|e| TaskError::Refused(e.to_string()))
    }
}

fn fault(method: &'static str, error: ttrpc::Error) -> TaskError {
    match error {
        ttrpc::Error::RpcStatus(status) => match status.code() {
            ttrpc::Code::NOT_FOUND => TaskError::NotFound(status.message),
            ttrpc::Code::DEADLINE_EXCEEDED => TaskError::Late { method, seconds: LONG.as_secs() },
            _ => TaskError::Refused(status.message),
        },
        other => TaskError::Gone(other.to_string()),
    }
}

/// `containerd.runc.v1.Options` with `binary_name` (6) and `root` (7), which the protocol crate does not carry.
fn runtime_options(binary: &str, root: &str) -> Any {
    let mut value = Vec::new();
    for (tag, text) in [(0x32, binary), (0x3a, root)] {
        value.push(tag);
        let mut length = text.len();
        while length >= 0x80 {
            value.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            length >>= 7;
        }
        value.push(u8::try_from(length).unwrap_or(0));
        value.extend_from_slice(text.as_bytes());
    }
    Any { type_url: "containerd.runc.v1.Options".to_owned(), value, ..Default::default() }
}
