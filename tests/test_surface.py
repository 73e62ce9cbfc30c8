"""Every name that a user of PyTorch, Keras or NumPy looks for is there, or the page about coming from PyTorch says what to use instead."""
from __future__ import annotations

import re
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

import minigrad as mg

PAGE = Path(__file__).parents[1] / "docs" / "from-pytorch.md"

PRESENT = {
    "": """tensor as_tensor from_numpy from_dlpack zeros ones full empty eye arange linspace rand randn randint randperm zeros_like ones_like
        full_like empty_like rand_like randn_like manual_seed Generator default_rng set_default_dtype get_default_dtype float32 float64
        int32 int64 uint8 bool float double int long set_num_threads get_num_threads is_tensor is_floating_point numel finfo iinfo pi e
        inf nan cat concat concatenate stack hstack vstack split chunk where maximum minimum clamp clip tril triu meshgrid gather
        scatter_add index_select masked_fill masked_select one_hot pad flip roll tile broadcast_to permute transpose swapaxes movedim
        moveaxis squeeze unsqueeze expand_dims reshape ravel flatten unbind narrow select take_along_dim nonzero count_nonzero allclose
        isclose equal add sub mul div subtract multiply true_divide floor_divide remainder pow neg abs sign square sqrt rsqrt reciprocal
        exp exp2 expm1 log log2 log10 log1p sin cos tan tanh sigmoid relu softmax log_softmax erf floor ceil round trunc isnan isinf
        isfinite eq ne lt le gt ge logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor bitwise_not sum mean
        var std max min prod amax amin argmax argmin any all cumsum logsumexp norm matmul mm bmm mv dot inner outer einsum tensordot
        vecdot no_grad enable_grad set_grad_enabled inference_mode is_grad_enabled autograd func nn optim data train utils cuda errors
        device capture run_many op save load summary cache_info cache_clear bernoulli Tensor""",
    "Tensor": """data grad grad_fn requires_grad is_leaf shape ndim dim size numel nelement dtype device T mT t backward detach clone
        requires_grad_ retain_grad register_hook zero_ fill_ copy_ item tolist numpy astype to type type_as float double long int bool cpu
        cuda nbytes itemsize element_size is_floating_point contiguous is_contiguous __len__ __iter__ __bool__ __float__ __int__ __index__
        __contains__ __getitem__ __setitem__ __format__ __array__ __array_ufunc__ __array_function__ __dlpack__ __dlpack_device__ sum mean
        var std max min prod amax amin argmax argmin any all cumsum logsumexp norm count_nonzero nonzero allclose isclose equal reshape
        view view_as flatten ravel squeeze unsqueeze expand_dims transpose permute swapaxes movedim expand expand_as broadcast_to repeat
        tile unflatten flip roll split chunk unbind narrow select gather index_select index_add scatter_add masked_fill masked_select
        where clamp clip abs neg exp log log1p expm1 sqrt square pow sin cos tan tanh sigmoid relu softmax log_softmax erf floor ceil
        round trunc sign reciprocal rsqrt matmul mm bmm mv dot inner outer add sub mul div floor_divide remainder maximum minimum eq ne lt
        le gt ge isnan isinf isfinite logical_and logical_not add_ sub_ mul_ div_ pow_ clamp_ exp_ neg_ sqrt_ relu_ tanh_ sigmoid_
        masked_fill_ scatter_add_ index_add_ __add__ __radd__ __iadd__ __sub__ __mul__ __truediv__ __floordiv__ __mod__ __pow__ __rpow__
        __matmul__ __rmatmul__ __neg__ __abs__ __invert__ __and__ __or__ __xor__ __eq__ __ne__ __lt__ __le__ __gt__ __ge__""",
    "autograd": "grad backward gradcheck gradgradcheck Function",
    "func": "grad value_and_grad vjp jvp jacrev jacobian hessian hvp",
    "nn": """Module Parameter Sequential ModuleList ModuleDict ParameterList Linear Identity Flatten Unflatten Embedding Residual ReLU ReLU6
        LeakyReLU ELU SELU GELU SiLU Sigmoid Tanh Hardtanh Softplus LogSigmoid Softmax LogSoftmax BatchNorm1d LayerNorm Dropout MSELoss
        L1Loss SmoothL1Loss HuberLoss BCELoss BCEWithLogitsLoss NLLLoss CrossEntropyLoss functional init utils""",
    "nn.Module": """parameters named_parameters modules named_modules children named_children buffers named_buffers state_dict load_state_dict train
        eval zero_grad apply to float double cpu cuda requires_grad_ register_parameter register_buffer register_module add_module
        register_forward_hook register_forward_pre_hook register_full_backward_hook get_submodule get_parameter get_buffer summary
        extra_repr""",
    "nn.functional": """linear relu relu_ relu6 leaky_relu elu selu gelu silu softplus hardtanh sigmoid tanh logsigmoid softmax log_softmax dropout
        batch_norm layer_norm embedding one_hot pad normalize cosine_similarity cross_entropy nll_loss mse_loss l1_loss smooth_l1_loss
        huber_loss binary_cross_entropy binary_cross_entropy_with_logits""",
    "nn.init": """xavier_uniform_ xavier_normal_ kaiming_uniform_ kaiming_normal_ glorot_uniform_ glorot_normal_ he_uniform_ he_normal_ uniform_
        normal_ trunc_normal_ zeros_ ones_ constant_ eye_ orthogonal_ sparse_ calculate_gain""",
    "nn.utils": "clip_grad_norm_ clip_grad_value_ get_total_norm clip_grads_with_norm_ parameters_to_vector vector_to_parameters",
    "optim": "SGD Adam AdamW RMSprop Adagrad Optimizer lr_scheduler",
    "optim.Adam": "step zero_grad state_dict load_state_dict add_param_group",
    "optim.lr_scheduler": """StepLR MultiStepLR ExponentialLR CosineAnnealingLR LambdaLR LinearLR ConstantLR OneCycleLR ReduceLROnPlateau
        SequentialLR""",
    "utils.data": "Dataset TensorDataset Subset DataLoader random_split default_collate",
    "data": "make_circles make_moons make_xor load_mnist load_digits read_csv load_npz standardize",
    "train": """Trainer History Callback EarlyStopping ModelCheckpoint CSVLogger TerminateOnNaN LambdaCallback LearningRateScheduler
        ReduceLROnPlateau accuracy""",
    "train.Trainer": "fit evaluate predict",
    "train.Callback": "on_train_begin on_train_end on_epoch_begin on_epoch_end on_train_batch_begin on_train_batch_end",
    "cuda": "is_available device_count manual_seed manual_seed_all empty_cache synchronize",
}

#: What people look for and do not find; the page names each, and the way to do it.
ABSENT = {
    "": """sort argsort topk unique median cumprod asin sinh hypot addmm diag trace linalg compile jit vmap set_printoptions get_rng_state
        float16 bfloat16 Size backends warmup tape_stats profiler use_deterministic_algorithms""",
    "Tensor": "name sort argsort topk median half new_zeros uniform_ normal_ scatter_ lerp stride",
    "autograd": "detect_anomaly",
    "nn": "Conv1d Conv2d MaxPool2d BatchNorm2d LSTM GRU MultiheadAttention Transformer PReLU KLDivLoss ParameterDict LazyLinear DataParallel",
    "nn.Module": "half compile",
    "nn.functional": "conv2d max_pool2d kl_div scaled_dot_product_attention",
    "optim": "LBFGS Adadelta NAdam RAdam Adamax",
    "utils": "checkpoint tensorboard",
}


def found(path: str) -> Any:
    """The object at a path below minigrad."""
    return reduce(getattr, path.split(".") if path else (), mg)


@pytest.mark.parametrize("place", PRESENT)
def test_every_name_is_there(place: str) -> None:
    assert [name for name in PRESENT[place].split() if not hasattr(found(place), name)] == []


@pytest.mark.parametrize("place", ABSENT)
def test_what_is_absent_is_explained(place: str) -> None:
    names, page = ABSENT[place].split(), PAGE.read_text()
    assert [name for name in names if hasattr(found(place), name)] == [], "it is there: say so above"
    assert [name for name in names if not re.search(rf"`[^`\n]*\b{re.escape(name)}\b[^`\n]*`", page)] == []


def test_public_functions_say_what_they_do() -> None:
    silent = [name for name in PRESENT[""].split() if callable(getattr(mg, name)) and not getattr(mg, name).__doc__]
    assert silent == []
