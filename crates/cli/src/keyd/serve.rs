//! One connection: frames in, answers out, in whatever order the providers finish.

use std::io::ErrorKind;
use std::sync::Arc;

use pgpci_core::wire::{Decoder, Failure, FailureKind, Request, Response, encode};
use pgpci_kms::Providers;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::Fatal;

/// Requests open at once, most of them waiting for a place at their provider. Far more than a
/// broker has, so that requests to a provider that hangs never keep others from being read.
/// Beyond it nothing more is read, and the socket fills up, which the broker feels. Its end is
/// then noticed only when one of them is done, which [`Providers::LIMIT`] bounds.
const MAX_OPEN: usize = 1024;

/// Bytes asked of the socket at once; requests are around 200.
const READ_LEN: usize = 4096;

/// Serves until the other end is closed. Requests still open then are dropped: a broker that
/// is gone waits for no answer.
pub async fn serve(socket: UnixStream, providers: Providers) -> Result<(), Fatal> {
    let (mut reader, writer) = socket.into_split();
    let (providers, writer) = (Arc::new(providers), Arc::new(Mutex::new(writer)));
    let mut decoder = Decoder::default();
    let mut received = Zeroizing::new([0u8; READ_LEN]);
    let mut requests = JoinSet::new();
    let early = providers.clone();
    requests.spawn(async move {
        early.prepare().await;
        Ok(())
    });
    loop {
        while requests.len() < MAX_OPEN {
            match decoder.next::<Request>() {
                Ok(Some(request)) => {
                    requests.spawn(answer(request, providers.clone(), writer.clone()));
                }
                Ok(None) => break,
                Err(_) => return Err(Fatal::Malformed),
            }
        }
        tokio::select! {
            Some(answered) = requests.join_next() => match answered {
                Ok(Ok(())) => {}
                Ok(Err(error)) if is_closed(error.kind()) => return Ok(()),
                Ok(Err(error)) => return Err(Fatal::System("writing to the socket", error)),
                Err(_) => return Err(Fatal::Internal),
            },
            read = reader.read(received.as_mut_slice()), if requests.len() < MAX_OPEN => {
                match read {
                    Ok(0) => return Ok(()),
                    Ok(len) => decoder.push(received.get(..len).unwrap_or_default()),
                    Err(error) if is_closed(error.kind()) => return Ok(()),
                    Err(error) => return Err(Fatal::System("reading from the socket", error)),
                }
            }
        }
    }
}

async fn answer(
    request: Request,
    providers: Arc<Providers>,
    writer: Arc<Mutex<OwnedWriteHalf>>,
) -> std::io::Result<()> {
    let response = providers.handle(request).await;
    let frame = frame(&response)?;
    drop(response); // wiped before waiting for the socket
    // The lock keeps frames whole.
    writer.lock().await.write_all(&frame).await
}

fn frame(response: &Response) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut frame = Zeroizing::new(Vec::new());
    if encode(response, &mut frame).is_ok() {
        return Ok(frame);
    }
    // A provider returned more than a frame holds; say so rather than leaving it unanswered.
    let refusal = Response {
        id: response.id,
        result: Err(Failure::new(FailureKind::Invalid, "the answer is too long")),
    };
    frame.clear();
    encode(&refusal, &mut frame).map_err(|_| std::io::Error::from(ErrorKind::InvalidData))?;
    Ok(frame)
}

fn is_closed(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

#[cfg(test)]
mod tests;
