"""The probe as scikit-learn has its classifiers: fit, predict_proba, decision_function."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import StandardScaler
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, validate_data

from scarce_cxr.errors import ScarceError
from scarce_cxr.evaluation.probe import STRENGTHS, fit_probes


class _Draw(NamedTuple):
    rows: np.ndarray
    labels: np.ndarray


class FewShotProbe(ClassifierMixin, BaseEstimator):
    """An L2-regularised logistic regression for few films of two classes, its strength chosen by cross-validation.

    It is what `scarce probe` fits. Folds keep a patient's films together, and have a fold's share of both classes.

    Args:
        strengths: the C to choose from, each above 0; larger is less regularised.
        folds: of cross-validation, at most; never more than there are patients of either class.
        seed: another seed makes other folds.

    Attributes:
        classes_: (2,) the labels, sorted; the second is the positive one.
        coef_, intercept_: (1, d) and (1,), on features as they are.
        strength_: the C that was chosen.
        n_features_in_: d.
    """

    def __init__(self, strengths: Sequence[float] = STRENGTHS, folds: int = 5, seed: int = 0) -> None:
        self.strengths = strengths
        self.folds = folds
        self.seed = seed

    def fit(self, X, y, groups=None, unlabelled=None) -> "FewShotProbe":
        """Fits to labelled films.

        Args:
            X: (n, d) features.
            y: (n,) labels of two kinds.
            groups: (n,) whose film it is; None: all are of different patients.
            unlabelled: (m, d) features of films without labels, such as the whole train split, which say where each
                dimension lies and how far it spreads; None takes X, which of a few films is a poor measure.

        Raises:
            ValueError: the input is not finite, does not fit together, or has another number of classes than two.
        """
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        kind = type_of_target(y, input_name="y", raise_unknown=True)
        if kind != "binary":
            raise ValueError(f"Only binary classification is supported. The type of the target is {kind}.")
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"expected films of two classes, got one class: {self.classes_[0]!r}")
        if groups is not None:
            check_consistent_length(X, groups)
            groups = np.asarray(groups).astype(str)
        known = X if unlabelled is None else check_array(unlabelled, dtype=np.float64)
        if known.shape[1] != X.shape[1]:
            raise ValueError(f"expected unlabelled films of {X.shape[1]} features, got {known.shape[1]}")
        scaler = StandardScaler().fit(known)
        draw = _Draw(np.arange(len(X)), labels)
        try:
            probes = fit_probes(
                scaler.transform(X), [draw], strengths=self.strengths, folds=self.folds, patients=groups, seed=self.seed
            )
        except ScarceError as error:
            # What calls an estimator expects errors of Python's own.
            raise ValueError(str(error)) from error
        self.coef_ = probes.weights / scaler.scale_
        self.intercept_ = probes.bias - self.coef_ @ scaler.mean_
        self.strength_ = float(probes.strength[0])
        return self

    def decision_function(self, X) -> np.ndarray:
        """(n, d) -> (n,) log-odds of the second class."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return X @ self.coef_[0] + self.intercept_[0]

    def predict_proba(self, X) -> np.ndarray:
        """(n, d) -> (n, 2) probabilities of the classes; not calibrated on other films."""
        odds = self.decision_function(X)
        return np.stack([expit(-odds), expit(odds)], axis=1)

    def predict(self, X) -> np.ndarray:
        """(n, d) -> (n,) labels: the second class where its log-odds are above 0."""
        odds = self.decision_function(X)
        return self.classes_[(odds > 0).astype(int)]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags
