# ruff: noqa
# mypy: ignore-errors
"""A PyTorch script as people write it after the Quickstart; the tests run it as it stands, and with its import lines changed."""
import numpy as np

import torch
from torch import nn
from torch.optim import Adam
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
print(f"Using {device} device")

# ---- data: 8 x 8 images of bars, one class for each row and column
rng = np.random.default_rng(0)
labels = rng.integers(0, 16, 600)
images = rng.normal(0, 0.5, (600, 8, 8)).astype(np.float32)
for image, label in zip(images, labels):
    if label < 8:
        image[label] += 1
    else:
        image[:, label - 8] += 1
train_data = TensorDataset(torch.from_numpy(images[:500]), torch.from_numpy(labels[:500]))
test_data = TensorDataset(torch.from_numpy(images[500:]), torch.from_numpy(labels[500:]))
train_dataloader = DataLoader(train_data, batch_size=64, shuffle=False)
test_dataloader = DataLoader(test_data, batch_size=64)
for X, y in test_dataloader:
    print(f"Shape of X [N, H, W]: {X.shape}")
    print(f"Shape of y: {y.shape} {y.dtype}")
    break


class NeuralNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()
        self.linear_relu_stack = nn.Sequential(
            nn.Linear(8 * 8, 64, bias=False),  # BatchNorm1d takes it out again
            nn.BatchNorm1d(64),
            nn.ReLU(),
            nn.Dropout(p=0.0),
            nn.Linear(64, 64),
            nn.ReLU(),
            nn.Linear(64, 16),
        )

    def forward(self, x):
        x = self.flatten(x)
        logits = self.linear_relu_stack(x)
        return logits


model = NeuralNetwork().to(device)
print(model)
with torch.no_grad():
    for name, parameter in model.named_parameters():  # the same weights everywhere
        if parameter.dim() > 1:
            bound = 1 / parameter.size(1) ** 0.5
            parameter.data = torch.from_numpy(rng.uniform(-bound, bound, tuple(parameter.shape)).astype(np.float32))
        else:
            parameter.copy_(torch.from_numpy(rng.uniform(0.1, 0.5, tuple(parameter.shape)).astype(np.float32)))
        print(f"Layer: {name} | Size: {parameter.size()}")
print(f"{sum(p.numel() for p in model.parameters() if p.requires_grad)} parameters")

loss_fn = nn.CrossEntropyLoss()
optimizer = Adam(model.parameters(), lr=1e-2)
scheduler = StepLR(optimizer, step_size=2, gamma=0.5)
losses, accuracies = [], []


def train(dataloader, model, loss_fn, optimizer):
    size = len(dataloader.dataset)
    model.train()
    running_loss = 0.0
    for batch, (X, y) in enumerate(dataloader):
        X, y = X.to(device), y.to(device)

        # Compute prediction error
        pred = model(X)
        loss = loss_fn(pred, y)

        # Backpropagation
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        running_loss += loss.item() * X.size(0)
        losses.append(loss.item())
        if batch % 4 == 0:
            loss, current = loss.item(), (batch + 1) * len(X)
            print(f"loss: {loss:>7f}  [{current:>5d}/{size:>5d}]")
    return running_loss / size


def test(dataloader, model, loss_fn):
    size = len(dataloader.dataset)
    num_batches = len(dataloader)
    model.eval()
    test_loss, correct = 0, 0
    with torch.no_grad():
        for X, y in dataloader:
            X, y = X.to(device), y.to(device)
            pred = model(X)
            test_loss += loss_fn(pred, y).item()
            correct += (pred.argmax(1) == y).type(torch.float).sum().item()
    test_loss /= num_batches
    correct /= size
    print(f"Test Error: \n Accuracy: {(100 * correct):>0.1f}%, Avg loss: {test_loss:>8f} \n")
    losses.append(test_loss)
    accuracies.append(correct)


epochs = 5
for t in range(epochs):
    print(f"Epoch {t + 1}, lr {scheduler.get_last_lr()[0]:.4f}\n-------------------------------")
    losses.append(train(train_dataloader, model, loss_fn, optimizer))
    test(test_dataloader, model, loss_fn)
    scheduler.step()
print("Done!")

torch.save(model.state_dict(), "model.pth")
print("Saved PyTorch Model State to model.pth")

restored = NeuralNetwork().to(device)
print(restored.load_state_dict(torch.load("model.pth", weights_only=True)))
test(test_dataloader, restored, loss_fn)

restored.eval()
x, y = test_data[0][0], test_data[0][1]
with torch.no_grad():
    x = x.unsqueeze(0).to(device)
    pred = restored(x)
    probabilities = nn.functional.softmax(pred, dim=1)
    predicted, actual = pred[0].argmax(0), y
    confidence, index = torch.max(probabilities, 1)
    print(f'Predicted: "{predicted}", Actual: "{actual}", confidence {confidence.item():.3f} of {index.item()}')
losses.append(confidence.item())

# ---- going on from a checkpoint, with gradients by hand
checkpoint = {"epoch": epochs, "model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict(), "loss": losses[-1]}
torch.save(checkpoint, "checkpoint.pth")
checkpoint = torch.load("checkpoint.pth", weights_only=True, map_location=device)
restored.load_state_dict(checkpoint["model_state_dict"])
optimizer = Adam(restored.parameters(), lr=1e-2)
optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
restored.train()
for X, y in train_dataloader:
    optimizer.zero_grad(set_to_none=True)
    loss = nn.functional.cross_entropy(restored(X), y)
    loss = loss + 1e-4 * sum((p ** 2).sum() for p in restored.parameters())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(restored.parameters(), max_norm=1.0)
    optimizer.step()
    losses.append(loss.item())
with torch.no_grad():
    for p in restored.parameters():
        p -= 0.01 * p.grad
        p.grad.zero_()
    losses.append(float(restored.linear_relu_stack[-1].weight.norm()))
