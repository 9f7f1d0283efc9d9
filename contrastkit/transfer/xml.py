"""XML of annotations, read without what makes XML dangerous: entities, which can expand without end or name files."""

from pathlib import Path
from typing import Never
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from contrastkit.errors import UserError


def read_xml(file: Path) -> Element:
    """The root element of a file.

    A document type, which alone can define entities, is refused, so nothing is expanded and nothing else is read.

    Raises:
        UserError: it is not there, no XML, or declares a document type.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data

    def refuse(*_: object) -> Never:
        raise UserError(f"{file} declares a document type, which annotations do not need: remove its <!DOCTYPE ...>")

    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(file.read_bytes(), True)
    except FileNotFoundError as error:
        raise UserError(f"no annotation {file}") from error
    except expat.ExpatError as error:
        raise UserError(f"{file} is no XML: {error}") from error
    return builder.close()
