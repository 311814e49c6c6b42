"""MLServer, in one process: a model of its own kind.

    mlserver start bench/peers/mlserver

It speaks KServe's protocol, which has no .npy: the request's array travels in base64
as the one element of a tensor of bytes.  A batch is a tensor with more elements.
"""

from mlserver import MLModel
from mlserver.types import (
    InferenceRequest,
    InferenceResponse,
    ResponseOutput,
    TensorData,
)

from peers import codec
from peers.policy import Policy, asked


class Act(MLModel):
    async def load(self) -> bool:
        self._policy = Policy(asked().weights)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        arrays = [codec.from_text(text) for text in payload.inputs[0].data]
        actions = self._policy.act(codec.join(arrays))
        texts = [codec.to_text(rows) for rows in codec.split(actions, arrays)]
        output = ResponseOutput(
            name="action",
            shape=[len(texts)],
            datatype="BYTES",
            data=TensorData(texts),
        )
        return InferenceResponse(model_name=self.name, outputs=[output])
