"""FastAPI under uvicorn, in two ways.

As its documentation begins: body and answer are declared, so pydantic parses the one
and FastAPI serialises the other.  And as fast as it can be: the codec does both.
"""

import uvicorn
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from peers import codec
from peers.policy import Policy, asked


class Body(BaseModel):
    obs: str


def build(weights: str) -> FastAPI:
    app, policy = FastAPI(), Policy(weights)

    @app.post("/declared")
    async def declared(body: Body) -> dict[str, str]:
        actions = policy.act(codec.from_text(body.obs))
        return {"action": codec.to_text(actions)}

    @app.post("/get_action")
    async def get_action(request: Request) -> Response:
        actions = policy.act(codec.decode(await request.body()))
        return Response(codec.encode(actions), media_type=codec.CONTENT_TYPE)

    return app


def main() -> None:
    weights, port, _ = asked()
    uvicorn.run(
        build(weights),
        port=port,
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
