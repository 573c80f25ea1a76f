"""Write the symbol of every architecture anew."""

from symbols import get_symbol

from . import FOLDER, names

for name in names():
    get_symbol(name).save(str(FOLDER / f"{name}-symbol.json"))
    print(FOLDER / f"{name}-symbol.json")
