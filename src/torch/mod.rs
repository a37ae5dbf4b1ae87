//! Tensors: the only room that names `tch`.

pub mod device;
