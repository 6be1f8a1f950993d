require "set"

class Shelf
  def add(book)
    @books ||= Set.new
    @books << book
  end
end

puts(
  1
)
