//! Reads a request's body, bounded in size and time.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::Payload;
use bytes::Bytes;
use tokio::time::timeout;

use super::problem::Problem;
use crate::protocol::Limit;
use crate::protocol::error::Code;

/// All of the body, if it is at most `bytes_max`, the bound of that name, and comes within `limit`.
pub(super) async fn read(
    body: Payload,
    (bound, bytes_max): (Limit, usize),
    limit: Duration,
) -> Result<Bytes, Problem> {
    match timeout(limit, body.to_bytes_limited(bytes_max)).await {
        Ok(Ok(Ok(bytes))) => Ok(bytes),
        Ok(Ok(Err(_))) => Err(Problem::new(Code::BadMessage, "the body could not be read")),
        Ok(Err(_)) => {
            let words = format!("the body has more than {bytes_max} bytes");
            Err(Problem::new(Code::TooBig, words).at(bound))
        }
        Err(_) => Err(Problem::new(Code::BadMessage, "the body did not come in time")
            .status(StatusCode::REQUEST_TIMEOUT)
            .at(Limit::BodyTimeout)),
    }
}
