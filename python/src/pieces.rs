//! Passes over matrices of stores in pieces, for other machines.

use crate::arguments::from_attributes;
use crate::dataset::Dataset;
use crate::error::{IntoPyResult, invalid};
use crate::linear::PyGram;
use crate::matrix::{ComparisonArguments, PyRankSums, PySummary, RequestArguments, StepArguments, Stored, plan};
use crate::work;
use numpy::{PyArray1, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use slaf::linear::Vectors;
use slaf::{Answer, Piece, Pieces, Question};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyPieces>()?;
    module.add_function(wrap_pyfunction!(pieces_stored, module)?)?;
    module.add_function(wrap_pyfunction!(work_stored, module)?)
}

from_attributes! {
    /// `slaf._boundary.Vectors`.
    struct VectorsArguments<'py> {
        means: PyReadonlyArray1<'py, f64>,
        factors: PyReadonlyArray1<'py, f64>,
        values: PyReadonlyArray1<'py, f64>,
    }
}

from_attributes! {
    /// `slaf._boundary.Question`.
    struct QuestionArguments<'py> {
        request: Option<RequestArguments<'py>>,
        comparison: Option<ComparisonArguments<'py>>,
        vectors: Option<VectorsArguments<'py>>,
    }
}

impl QuestionArguments<'_> {
    fn question(self, py: Python<'_>) -> PyResult<Question> {
        match (self.request, self.comparison, self.vectors) {
            (Some(request), None, None) => Ok(Question::Statistics(request.request()?)),
            (None, Some(comparison), None) => Ok(Question::Ranks(comparison.comparison()?)),
            (None, None, Some(VectorsArguments { means, factors, values })) => Ok(Question::Images(Vectors {
                means: means.to_vec()?,
                factors: factors.to_vec()?,
                values: values.to_vec()?,
            })),
            (None, None, None) => Ok(Question::Products),
            _ => Err(invalid(py, "a question is one of a request, a comparison and vectors")),
        }
    }
}

/// [`slaf::Pieces`], whose results are taken in their order.
#[pyclass(module = "slaf._slaf", name = "Pieces", frozen)]
struct PyPieces(Mutex<Option<Pieces>>);

#[pymethods]
impl PyPieces {
    /// What [`work_stored`] takes, of each piece that was not yet taken.
    #[getter]
    fn waiting(&self) -> Vec<[u64; 5]> {
        let pieces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pieces.iter().flat_map(Pieces::waiting).map(Piece::to_numbers).collect()
    }

    /// Takes the result of the next piece.
    fn take(&self, py: Python<'_>, result: &Bound<'_, PyBytes>) -> PyResult<()> {
        let bytes = result.as_bytes();
        py.detach(|| match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(pieces) => pieces.take(bytes),
            None => Err(slaf::Error::invalid("the answer was given")),
        })
        .into_py(py)
    }

    /// A `Summary`, `Gram`, array of images or `RankSums`, after the last piece.
    fn finish(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let pieces = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let pieces = pieces.ok_or_else(|| invalid(py, "the answer was given"))?;
        Ok(match pieces.finish().into_py(py)? {
            Answer::Statistics(summary) => Py::new(py, PySummary::of(py, summary)?)?.into_any(),
            Answer::Products(gram) => Py::new(py, PyGram(Arc::new(gram)))?.into_any(),
            Answer::Images(images) => PyArray1::from_vec(py, images).into_any().unbind(),
            Answer::Ranks(ranks) => Py::new(py, PyRankSums::of(py, ranks))?.into_any(),
        })
    }
}

/// [`slaf::Dataset::pieces`] of a question.
#[pyfunction]
fn pieces_stored(
    py: Python<'_>,
    dataset: &Dataset,
    stored: Stored,
    steps: Vec<StepArguments<'_>>,
    question: QuestionArguments<'_>,
    workers: usize,
) -> PyResult<PyPieces> {
    let (dataset, plan, question) = (dataset.dataset(py)?, plan(py, &steps)?, question.question(py)?);
    let (key, rows, cols) = stored.parts();
    let pieces = work::run(py, move || dataset.pieces(&key, &rows, &cols, &plan, question, workers))?;
    Ok(PyPieces(Mutex::new(Some(pieces))))
}

/// [`slaf::Dataset::work`], of the same arguments and one of the pieces.
#[pyfunction]
fn work_stored<'py>(
    py: Python<'py>,
    dataset: &Dataset,
    stored: Stored,
    steps: Vec<StepArguments<'_>>,
    question: QuestionArguments<'_>,
    piece: [u64; 5],
) -> PyResult<Bound<'py, PyBytes>> {
    let (dataset, plan, question) = (dataset.dataset(py)?, plan(py, &steps)?, question.question(py)?);
    let (key, rows, cols) = stored.parts();
    let piece = Piece::from_numbers(piece).into_py(py)?;
    let bytes = work::run_with_progress(py, None, move |progress| {
        dataset.work(&key, &rows, &cols, &plan, &question, &piece, progress)
    })?;
    Ok(PyBytes::new(py, &bytes))
}
