// Scores images with a detector that `occ-lab export` has written.
// Use: score MODEL.onnx IMAGE.ppm...
using System;
using System.Globalization;
using System.IO;
using System.Linq;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

static class Score
{
    static int Main(string[] words)
    {
        if (words.Length < 2)
        {
            Console.Error.WriteLine("use: score MODEL.onnx IMAGE.ppm...");
            return 1;
        }
        var plain = CultureInfo.InvariantCulture;
        using (var session = new InferenceSession(words[0]))
        {
            // There is a threshold if the run is calibrated.
            session.ModelMetadata.CustomMetadataMap.TryGetValue("threshold", out string text);
            double threshold = text == null || text == "inf" ? double.PositiveInfinity : double.Parse(text, plain);
            foreach (string path in words.Skip(1))
            {
                var input = NamedOnnxValue.CreateFromTensor("image", ReadPpm(path));
                using (var found = session.Run(new[] { input }, new[] { "score" }))
                {
                    float score = found.First().AsEnumerable<float>().First();
                    string decision = score > threshold ? "anomalous" : "normal";
                    Console.WriteLine(string.Format(plain, "{0}\t{1:g7}\t{2:g7}\t{3}", path, score, threshold, decision));
                }
            }
        }
        return 0;
    }

    // A binary PPM file without comments. On a line, pass the buffer of your camera instead.
    static DenseTensor<byte> ReadPpm(string path)
    {
        byte[] content = File.ReadAllBytes(path);
        int start = 0;
        string[] header = new string[4]; // P6, width, height, 255
        for (int word = 0; word < 4; start++)
        {
            if (char.IsWhiteSpace((char)content[start])) word++;
            else header[word] += (char)content[start];
        }
        if (header[0] != "P6" || header[3] != "255") throw new InvalidDataException(path + " is no 8-bit PPM");
        int[] shape = { 1, int.Parse(header[2]), int.Parse(header[1]), 3 };
        return new DenseTensor<byte>(content.Skip(start).ToArray(), shape);
    }
}
