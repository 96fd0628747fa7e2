"""What a mole of an analyte weighs, where a laboratory may report its mass or its amount.

Weights follow from the formula (PubChem) and the abridged standard atomic weights of IUPAC (2021).
Where laboratories mean something else than the molecule, the name says it: urea nitrogen counts
the nitrogen of urea, phosphate the phosphorus; triglycerides are taken for triolein, haemoglobin
for its monomer. ``tests/common/tasks/data/mapping/test_units.py`` holds them against the factors of
the AMA Manual of Style.
"""

from __future__ import annotations

import re

_ATOMS = {
    **{"H": 1.008, "C": 12.011, "N": 14.007, "O": 15.999, "Na": 22.990, "Mg": 24.305},
    **{"P": 30.974, "S": 32.06, "Cl": 35.45, "K": 39.098, "Ca": 40.078, "Fe": 55.845},
    **{"Co": 58.933, "I": 126.90, "Cu": 63.546, "Zn": 65.38, "Li": 6.94, "Pb": 207.2},
}
_FORMULAS = {
    "ammonia": "NH3",
    "bilirubin": "C33H36N4O6",
    "calcium": "Ca",
    "chloride": "Cl",
    "cholesterol": "C27H46O",
    "copper": "Cu",
    "cortisol": "C21H30O5",
    "creatinine": "C4H7N3O",
    "digoxin": "C41H64O14",
    "estradiol": "C18H24O2",
    "folate": "C19H19N7O6",
    "glucose": "C6H12O6",
    "iron": "Fe",
    "lactate": "C3H6O3",
    "lead": "Pb",
    "lithium": "Li",
    "magnesium": "Mg",
    "paracetamol": "C8H9NO2",
    "phosphate": "P",
    "potassium": "K",
    "sodium": "Na",
    "testosterone": "C19H28O2",
    "thyroxine": "C15H11I4NO4",
    "triglycerides": "C57H104O6",
    "urea": "CH4N2O",
    "urea nitrogen": "N2",
    "uric acid": "C5H4N4O3",
    "vitamin B12": "C63H88CoN14O14P",
    "vitamin D": "C27H44O2",
    "zinc": "Zn",
}
_PART = re.compile(r"([A-Z][a-z]?)(\d*)")


def _weight(formula: str) -> float:
    return sum(_ATOMS[atom] * int(count or 1) for atom, count in _PART.findall(formula))


MOLAR_MASSES = {name: _weight(formula) for name, formula in _FORMULAS.items()} | {
    "haemoglobin": 16_114.5
}
"""Grams per mole."""
