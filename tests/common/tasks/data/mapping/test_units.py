"""Units: published factors, there and back, and what is no unit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardround.common.tasks.data.mapping.analytes import MOLAR_MASSES
from wardround.common.tasks.data.mapping.units import (
    UnitError,
    by_molar_mass,
    conversion,
    unit,
)

# NIST SP 811 (2008), appendix B, and the SI brochure
PUBLISHED = [
    ("mg/dL", "g/L", 0.01),
    ("mmol/L", "umol/L", 1000),
    ("µmol/l", "mmol/L", 0.001),
    ("[lb_av]", "kg", 0.45359237),
    ("lb", "g", 453.59237),
    ("[in_i]", "cm", 2.54),
    ("[ft_i]", "m", 0.3048),
    ("mm[Hg]", "kPa", 0.1333224),
    ("mmHg", "Pa", 133.3224),
    ("cm[H2O]", "Pa", 98.0665),
    ("cal", "J", 4.184),
    ("U/L", "ukat/L", 1 / 60),
    ("10*3/uL", "10*9/L", 1),
    ("{cells}/uL", "10*6/L", 1),
    ("g/(24.h)", "mg/d", 1000),
    ("%", "1", 0.01),
    ("k[iU]/L", "[iU]/mL", 1),
    ("kg.m-2", "g/cm2", 0.1),
    ("bpm", "Hz", 1 / 60),
    ("wk", "d", 7),
]
# AMA Manual of Style, 11th edition, SI conversion factors
REPORTED = [
    ("creatinine", "mg/dL", "umol/L", 88.4),
    ("glucose", "mg/dL", "mmol/L", 0.0555),
    ("urea nitrogen", "mg/dL", "mmol/L", 0.357),
    ("bilirubin", "mg/dL", "umol/L", 17.104),
    ("cholesterol", "mg/dL", "mmol/L", 0.0259),
    ("triglycerides", "mg/dL", "mmol/L", 0.0113),
    ("uric acid", "mg/dL", "umol/L", 59.485),
    ("calcium", "mg/dL", "mmol/L", 0.25),
    ("phosphate", "mg/dL", "mmol/L", 0.323),
    ("vitamin B12", "pg/mL", "pmol/L", 0.7378),
    ("cortisol", "ug/dL", "nmol/L", 27.588),
    ("thyroxine", "ug/dL", "nmol/L", 12.871),
    ("vitamin D", "ng/mL", "nmol/L", 2.496),
    ("testosterone", "ng/dL", "nmol/L", 0.0347),
    ("folate", "ng/mL", "nmol/L", 2.266),
    ("iron", "ug/dL", "umol/L", 0.179),
    ("lactate", "mg/dL", "mmol/L", 0.111),
    ("ammonia", "ug/dL", "umol/L", 0.587),
    ("paracetamol", "ug/mL", "umol/L", 6.614),
    ("digoxin", "ng/mL", "nmol/L", 1.281),
    ("estradiol", "pg/mL", "pmol/L", 3.671),
]


@pytest.mark.parametrize(("here", "there", "factor"), PUBLISHED)
def test_factors_are_the_published_ones_and_go_back(here: str, there: str, factor: float) -> None:
    found, back = conversion(here, there), conversion(there, here)
    assert found is not None and back is not None
    assert found.factor == pytest.approx(factor, rel=1e-6)
    assert found.factor * back.factor == pytest.approx(1, rel=1e-14)
    assert found.offset == back.offset == 0


@given(st.floats(-200, 400))
def test_a_temperature_goes_there_and_back(degrees: float) -> None:
    there, back = conversion("[degF]", "Cel"), conversion("°C", "degF")
    assert there is not None and back is not None
    celsius = degrees * there.factor + there.offset
    assert celsius == pytest.approx((degrees - 32) * 5 / 9, abs=1e-10)
    assert celsius * back.factor + back.offset == pytest.approx(degrees, abs=1e-10)


@pytest.mark.parametrize(("analyte", "here", "there", "factor"), REPORTED)
def test_an_analytes_factor_is_the_one_that_laboratories_use(
    analyte: str, here: str, there: str, factor: float
) -> None:
    mass = MOLAR_MASSES[analyte]
    found, back = by_molar_mass(here, there, mass), by_molar_mass(there, here, mass)
    assert found is not None and back is not None
    assert found.factor == pytest.approx(factor, rel=0.003)  # they are given to three digits
    assert found.factor * back.factor == pytest.approx(1, rel=1e-14)


@pytest.mark.parametrize(
    ("here", "there"),
    [("mg/dL", "mmol/L"), ("meq/L", "mmol/L"), ("[iU]/L", "U/L"), ("kg", "m"), ("Cel", "%")],
)
def test_units_that_measure_different_things_have_no_factor(here: str, there: str) -> None:
    assert conversion(here, there) is None


def test_molar_masses_only_stand_between_a_mass_and_an_amount() -> None:
    assert by_molar_mass("mg/dL", "g/L", 100.0) is None
    assert by_molar_mass("mg/dL", "mmol", 100.0) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("MG/DL", "is it 'mg'"),
        ("mmhg", "is it 'mm[Hg]'"),
        ("mg//dL", "'/'"),
        ("(mg", "a bracket"),
        ("((((((((g))))))))", "too many brackets"),
        ("Cel/h", "a scale"),
        ("mg dL", "' '"),
        ("", "no unit"),
        ("m999", "beyond 30"),
        ("²", "no unit of UCUM"),  # a digit to Python, and no number
        ("g" * 101, "no unit"),
        ("furlong", "'furlong'"),
    ],
)
def test_what_is_no_unit_is_refused_with_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(UnitError, match=".*") as error:
        unit(text)
    assert says in str(error.value)


@given(st.text(alphabet="mgLdlu/.()10*^[]{}%HCe -+²٣", max_size=30))
def test_any_text_is_a_unit_or_an_error_of_one_line(text: str) -> None:
    try:
        assert unit(text).factor >= 0
    except UnitError as error:
        assert "\n" not in str(error)
