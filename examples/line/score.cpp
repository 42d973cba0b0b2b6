// Scores images with a detector that `occ-lab export` has written.
// Use: score MODEL.onnx IMAGE.ppm...
#include <onnxruntime_cxx_api.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

struct Image {
  int64_t width = 0, height = 0;
  std::vector<uint8_t> pixels;  // height x width x RGB
};

// A binary PPM file without comments. On a line, pass the buffer of your camera instead.
Image read_ppm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string kind;
  int largest = 0;
  Image image;
  file >> kind >> image.width >> image.height >> largest;
  file.get();  // the white space before the pixels
  if (!file || kind != "P6" || largest != 255) throw std::runtime_error(path + " is no 8-bit PPM");
  image.pixels.resize(image.width * image.height * 3);
  file.read(reinterpret_cast<char*>(image.pixels.data()), image.pixels.size());
  if (!file) throw std::runtime_error(path + " is cut");
  return image;
}

int main(int count, char** words) try {
  if (count < 3) throw std::runtime_error("use: score MODEL.onnx IMAGE.ppm...");
  Ort::Env env;
  Ort::Session session(env, words[1], Ort::SessionOptions());  // on Windows, the path is wide
  Ort::AllocatorWithDefaultOptions allocator;
  auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  // There is a threshold if the run is calibrated.
  auto text = session.GetModelMetadata().LookupCustomMetadataMapAllocated("threshold", allocator);
  double threshold = text ? std::stod(text.get()) : std::numeric_limits<double>::infinity();
  const char *input = "image", *output = "score";
  for (int index = 2; index < count; ++index) {
    Image image = read_ppm(words[index]);
    std::array<int64_t, 4> shape{1, image.height, image.width, 3};
    auto tensor = Ort::Value::CreateTensor<uint8_t>(memory, image.pixels.data(),
                                                    image.pixels.size(), shape.data(), 4);
    auto found = session.Run(Ort::RunOptions(), &input, &tensor, 1, &output, 1);
    float score = *found[0].GetTensorData<float>();
    std::printf("%s\t%.7g\t%.7g\t%s\n", words[index], score, threshold,
                score > threshold ? "anomalous" : "normal");
  }
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
