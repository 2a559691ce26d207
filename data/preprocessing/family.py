"""What every family of preprocessing has."""

import dataclasses
from typing import ClassVar


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What every family has. Subclasses add their numbers, `train` and `evaluate`.

    Both methods take a uint8 [height, width, 3] image and the output size; `train` also an int [2] seed.
    """

    name: ClassVar[str]

    def settings(self, image_size):
        """What a checkpoint records, JSON-able: the family's name, the side in pixels, the family's own."""
        return {"name": self.name, "image_size": image_size, **_json_able(dataclasses.asdict(self))}


def _json_able(values):
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
