//! The client against servers that do what they please.

mod scripted;
mod modern;
mod legacy;
mod offers;
mod real;
mod tls;
