// Labels a picture with ONNX Runtime and the labels library of fastscnn.
//
//     cmake -B build -DCMAKE_PREFIX_PATH=FOLDER && cmake --build build
//     build/label_image WEIGHTS.onnx PICTURE.ppm LABELS.pgm
//
// For Linux and macOS. FOLDER holds ONNX Runtime: include/ and lib/ of its archive for C++. Debian 13 has the package
// libonnxruntime-dev instead; then omit FOLDER.
// WEIGHTS.onnx is a file of fastscnn whose output is `logits`, in float32 or int8. PICTURE.ppm is the network's input: RGB, in
// about the size that the model was trained for. `ffmpeg -i photo.jpg -vf scale=480:360 picture.ppm` writes one of 360x480.
// LABELS.pgm has its size, and one byte per pixel: the class id.
#include <onnxruntime_cxx_api.h>

#include <array>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "fastscnn_labels.h"

struct Picture {
  int64_t height, width;
  std::vector<uint8_t> pixels;  // [height, width, 3]
};

Picture read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string kind;
  int64_t width = 0, height = 0, most = 0;
  file >> kind >> width >> height >> most;
  file.get();
  if (!file || kind != "P6" || most != 255 || width < 32 || height < 32 || width > 16384 || height > 16384)
    throw std::runtime_error(path + ": is no PPM file (P6) of 8 bits, without comments, with sides of 32 to 16384.");
  Picture picture{height, width, std::vector<uint8_t>(height * width * 3)};
  if (!file.read(reinterpret_cast<char*>(picture.pixels.data()), picture.pixels.size()))
    throw std::runtime_error(path + ": is truncated.");
  return picture;
}

void write(const std::string& path, const std::vector<uint8_t>& labels, int64_t height, int64_t width) {
  std::ofstream file(path, std::ios::binary);
  file << "P5\n" << width << " " << height << "\n255\n";
  file.write(reinterpret_cast<const char*>(labels.data()), labels.size());
  if (!file.flush()) throw std::runtime_error(path + ": cannot be written.");
}

std::vector<uint8_t> label(Ort::Session& session, Picture& picture) {
  const std::array<int64_t, 4> shape{1, picture.height, picture.width, 3};
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const auto input = Ort::Value::CreateTensor<uint8_t>(memory, picture.pixels.data(), picture.pixels.size(), shape.data(), 4);
  const char* const inputs[] = {"images"};
  const char* const outputs[] = {"logits"};
  const auto logits = session.Run(Ort::RunOptions{}, inputs, &input, 1, outputs, 1);
  const auto size = logits[0].GetTensorTypeAndShapeInfo().GetShape();  // [1, classes, h, w]
  std::vector<uint8_t> labels(picture.height * picture.width);
  const int status = fastscnn_labels(logits[0].GetTensorData<float>(), size[1], size[2], size[3], picture.height,
                                     picture.width, 0, 1, labels.data());
  if (status != FASTSCNN_OK) throw std::runtime_error("fastscnn_labels returned " + std::to_string(status) + ".");
  return labels;
}

int main(int count, char** words) try {
  if (count != 4) throw std::runtime_error("Usage: label_image WEIGHTS.onnx PICTURE.ppm LABELS.pgm");
  setenv("ORT_DISABLE_TELEMETRY", "1", 1);  // read when the environment is made
  Ort::Env env;
  Ort::Session session(env, words[1], Ort::SessionOptions{});
  Picture picture = read(words[2]);
  write(words[3], label(session, picture), picture.height, picture.width);
} catch (const std::exception& error) {
  std::cerr << "label_image: " << error.what() << "\n";
  return 1;
}
