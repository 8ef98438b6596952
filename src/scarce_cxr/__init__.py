"""SCARCE-CXR: self-supervised pretraining on unlabelled chest radiographs, watched for collapse. Research use only."""
