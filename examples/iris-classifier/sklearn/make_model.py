"""Train a logistic regression on 150 irises, and write it as model.joblib."""

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression


def main():
    irises = load_iris()
    model = LogisticRegression(max_iter=1000).fit(irises.data, irises.target)
    right = (model.predict(irises.data) == irises.target).sum()
    print(f"trained on {len(irises.target)} irises, {right} of them classified correctly")
    # A file of joblib is a pickle: it is read by the same version of scikit-learn, and loading it can run any code.
    joblib.dump(model, "model.joblib")


if __name__ == "__main__":
    main()
