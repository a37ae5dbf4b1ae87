// What a tensor is, in one call: a pass over a small model asks it of a hundred tensors.

#include <ATen/core/Tensor.h>

extern "C" {

// The numbers of a tensor, in `data`, when it is of a type (0 float32, 1 int64, 2 float64), on the CPU, in one piece and of so many
// numbers; otherwise false.
bool tickets_numbers(const at::Tensor* tensor, int32_t type, int64_t count, void** data) noexcept {
  constexpr at::ScalarType TYPES[] = {at::kFloat, at::kLong, at::kDouble};
  const bool suits = tensor->defined() && tensor->layout() == at::kStrided && tensor->is_cpu() &&
      tensor->scalar_type() == TYPES[type] && tensor->numel() == count && tensor->is_contiguous();
  *data = suits ? tensor->data_ptr() : nullptr;
  return suits;
}

}  // extern "C"
