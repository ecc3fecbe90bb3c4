// service.cc -- an ordinary C++ program: containers, strings, threads, exceptions, streams, a result to compare
#include <algorithm>
#include <cstdio>
#include <future>
#include <iostream>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace {

struct Node {
	virtual ~Node() = default;
	virtual long value() const = 0;
};
struct Leaf : Node {
	explicit Leaf(long v) : v(v) {}
	long value() const override { return v; }
	long v;
};
struct Sum : Node {
	long value() const override
	{
		return std::accumulate(parts.begin(), parts.end(), 0L, [](long s, const auto &p) { return s + p->value(); });
	}
	std::vector<std::unique_ptr<Node>> parts;
};

std::unique_ptr<Node> grow(int depth)
{
	if (depth == 0)
		return std::make_unique<Leaf>(1);
	auto sum = std::make_unique<Sum>();
	for (int i = 0; i < 4; i++)
		sum->parts.push_back(grow(depth - 1));
	return sum;
}

int parse(const std::string &word)
{
	if (word.find('x') != std::string::npos)
		throw std::invalid_argument("no number: " + word);
	return std::stoi(word);
}

std::mutex lock;
std::map<std::string, std::list<int>> shared;

long work(int seed)
{
	long total = 0;
	for (int i = 0; i < 3000; i++) {
		std::string key = "key" + std::to_string((i * 31 + seed) % 97);
		{
			std::lock_guard<std::mutex> hold(lock);
			shared[key].push_back(i);
			if (shared[key].size() > 20)
				shared[key].clear();
		}
		try {
			total += parse(i % 5 ? std::to_string(i) : key + "x");
		} catch (const std::exception &error) {
			total += std::string(error.what()).size();
		}
	}
	return total;
}

} // namespace

int main()
{
	std::vector<std::future<long>> results;
	for (int i = 0; i < 4; i++)
		results.push_back(std::async(std::launch::async, work, i));
	long total = 0;
	for (auto &result : results)
		total += result.get();
	std::unordered_map<std::string, int> words;
	std::istringstream text("the quick brown fox jumps over the lazy dog and the cat");
	for (std::string word; text >> word;)
		words[word]++;
	std::vector<std::pair<std::string, int>> sorted(words.begin(), words.end());
	std::sort(sorted.begin(), sorted.end());
	for (auto &[word, count] : sorted)
		std::cout << word << ' ' << count << '\n';
	std::regex pattern("(\\w+)@(\\w+)\\.com");
	std::cout << std::regex_replace(std::string("mail joe@example.com now"), pattern, "$2/$1") << '\n';
	std::cout << "tree " << grow(7)->value() << " total " << total << std::endl;
	return static_cast<int>(words.size());
}
